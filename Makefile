# Each target sets up what it needs (scripts/setup.sh), so `make demo` and `make test` are the only commands to know.
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz mutate conformance matrix soak build asan fsck crash tamper lock clean

help: ## say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

demo: ## a guided tour with a real PostgreSQL; ONCE=1 ends after it
	@scripts/setup.sh
	@.venv/bin/python -m ostiary.demo $(if $(ONCE),--once)

test: ## everything that must hold: lint, types, contracts, tests, attacks
	@scripts/setup.sh
	@scripts/test.sh $(ARGS)

lint: ## ruff, mypy, import contracts
	@scripts/setup.sh
	@scripts/lint.sh

bench: ## direct, pgbouncer and Ostiary, interleaved; QUICK=1 for a short run
	@scripts/setup.sh bench
	@.venv/bin/python -m bench $(if $(QUICK),--quick) $(ARGS)

fuzz: ## coverage-guided fuzzing of every decoder; SECONDS_EACH=60
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh $(or $(SECONDS_EACH),60)

mutate: ## mutants of the attack corpus, as many as asked for; COUNT=5000 SEED=1
	@scripts/setup.sh
	@OSTIARY_MUTANTS=$(or $(COUNT),5000) OSTIARY_MUTANTS_SEED=$(or $(SEED),1) .venv/bin/python -m pytest -q tests/attacks/test_mutated.py

conformance: ## other people's test suites, through the gateway and directly; ARGS="asyncpg" or ARGS="psycopg --source psycopg=FOLDER"
	@scripts/setup.sh conformance
	@.venv/bin/python -m conformance $(ARGS)

matrix: ## the tests that meet a PostgreSQL against each of its versions; VERSIONS="13 18"
	@scripts/setup.sh
	@scripts/matrix.sh $(VERSIONS)

soak: ## faults and floods at the size that the attack corpus asks for; takes hours
	@scripts/setup.sh
	@OSTIARY_KILL_ROUNDS=$(or $(ROUNDS),200) OSTIARY_KILL_CALLS=$(or $(CALLS),60) OSTIARY_POWER_CUTS=$(or $(ROUNDS),200) OSTIARY_HALF_OPEN=5000 OSTIARY_CHURN=10000 OSTIARY_CHURN_AT_ONCE=90 OSTIARY_TEST_SECONDS=14400 \
		.venv/bin/python -m pytest -q tests/attacks/test_faults.py tests/attacks/test_more_faults.py tests/attacks/test_dependencies.py tests/attacks/test_wire.py $(ARGS)

build: ## compile the kernel in place
	@scripts/setup.sh
	@scripts/build-kernel.sh

asan: ## the compiled modules with every access of memory checked: their tests, and the fuzz targets; SECONDS_EACH=20
	@scripts/setup.sh fuzz
	@scripts/asan.sh $(or $(SECONDS_EACH),20)

fsck: ## Tessera's fsck (Go) on a log of ours, and our verifier on Tessera's test log
	@scripts/setup.sh fsck
	@.venv/bin/python -m pytest -q conformance/test_tessera.py

crash: ## kill, fail and cut the power of the log's writer at every system call in turn; ROUNDS=1
	@scripts/setup.sh
	@.venv/bin/python -m pytest -q -n "$${PYTEST_WORKERS:-2}" conformance/test_crash.py

tamper: ## change every byte of a log, cut, move, double and replace everything in it: each is found and named
	@scripts/setup.sh
	@.venv/bin/python -m pytest -q -n "$${PYTEST_WORKERS:-2}" -rP conformance/test_tampering.py

lock: ## make requirements.lock anew
	@scripts/setup.sh
	@scripts/lock.sh $(ARGS)

clean: ## what builds and tests leave behind; not .venv
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache conformance/work demo-state *.egg-info
	find ostiary \( -name '*.so' -o -name '*.c' -o -name __pycache__ \) -prune -exec rm -rf {} +

"""What a decision costs: `python bench/micro_policy.py`.

Microseconds of CPU of this thread, the best of many runs: a decision that is remembered, and one that is not, with 10 to
10,000 policies, a statement of one and of five resources, and with the connection's classes asked for `unmask`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from micro_masking import best  # noqa: E402

from ostiary.model.operations import Action, Operation  # noqa: E402
from ostiary.policy import decide as deciding  # noqa: E402
from ostiary.policy.policies import Policies  # noqa: E402
from tests.policy.policy_world import connection, identity, operation, touch  # noqa: E402

UNMASK = (
    '@id("dba-unmasks") permit (principal in Ostiary::Group::"dba", action == Ostiary::Action::"unmask", resource);'
)


def policies(count: int, *, unmask: bool) -> Policies:
    """`count` policies, one of which permits the staff everything."""
    made = ['@id("staff") permit (principal in Ostiary::Group::"staff", action, resource);']
    made += [
        f'@id("team-{n}") permit (principal in Ostiary::Group::"team-{n}", action in [Ostiary::Action::"read", '
        f'Ostiary::Action::"write"], resource in Ostiary::Connection::"db-{n}") when {{ context.has_where }};'
        for n in range(count - 1)
    ]
    return Policies.load({"bench.cedar": "\n".join(made + [UNMASK] * unmask)})


def main() -> None:
    """Print one line a case."""
    who, target = identity("staff"), connection()
    small = operation(touch(Action.READ))
    large = operation(*(touch(Action.READ, f"public.t{n}") for n in range(5)))
    for count in (10, 100, 1000, 10_000):
        for unmask in (False, True):
            held = policies(count, unmask=unmask)
            for title, asked in (("1 resource", small), ("5 resources", large)):
                for kind, clear in (("miss", True), ("hit", False)):
                    took = best(lambda h=held, a=asked, c=clear: _decide(h, who, a, target, clear=c), 0.3)
                    what = f"{count:5} policies, {title}{', unmask asked' if unmask else ''}"
                    print(f"{what:45} {kind:5} {took * 1e6 / RUNS:9.2f} us")


RUNS = 20


def _decide(held: Policies, who: object, asked: Operation, target: object, *, clear: bool) -> None:
    for _ in range(RUNS):
        if clear:
            held.forget()
        deciding.decide(held, who, asked, target)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

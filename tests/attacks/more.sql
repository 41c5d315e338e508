-- Everything that a target can hold behind a harmless name. Beside the corpus's victim, other and wipe().
CREATE TABLE pristine AS SELECT * FROM victim;
CREATE FUNCTION wipe_imm(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM public.wipe(); RETURN 1; END';
CREATE FUNCTION wipe_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.victim; RETURN NEW; END';

-- Tables that run code when they are written.
CREATE TABLE t_row(id int); CREATE TRIGGER a BEFORE INSERT OR UPDATE ON t_row FOR EACH ROW EXECUTE FUNCTION wipe_trigger();
CREATE TABLE t_statement(id int); CREATE TRIGGER a AFTER INSERT ON t_statement EXECUTE FUNCTION wipe_trigger();
CREATE TABLE t_deferred(id int);
CREATE CONSTRAINT TRIGGER a AFTER INSERT ON t_deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wipe_trigger();
CREATE TABLE t_default(id int, x int DEFAULT wipe());
CREATE TABLE t_check(id int, CHECK (wipe_imm(id) = 1));
CREATE TABLE t_index(id int); CREATE INDEX ON t_index ((wipe_imm(id)));
CREATE TABLE t_partial(id int); CREATE INDEX ON t_partial (id) WHERE wipe_imm(id) = 1;
CREATE TABLE t_generated(id int, g int GENERATED ALWAYS AS (wipe_imm(id)) STORED);
CREATE TABLE t_rule(id int); CREATE RULE r AS ON INSERT TO t_rule DO ALSO DELETE FROM victim;
CREATE TABLE t_instead(id int); CREATE RULE r AS ON UPDATE TO t_instead DO INSTEAD DELETE FROM victim;
INSERT INTO t_instead VALUES (1);
CREATE TABLE t_part(id int) PARTITION BY RANGE (id);
CREATE TABLE t_part1 PARTITION OF t_part FOR VALUES FROM (0) TO (100);
CREATE TRIGGER a BEFORE INSERT ON t_part1 FOR EACH ROW EXECUTE FUNCTION wipe_trigger();
CREATE VIEW v_instead AS SELECT 1 AS id;
CREATE TRIGGER a INSTEAD OF INSERT ON v_instead FOR EACH ROW EXECUTE FUNCTION wipe_trigger();

-- What stands around victim.
CREATE TABLE keyed(id int PRIMARY KEY); INSERT INTO keyed SELECT id FROM victim;
ALTER TABLE victim ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES keyed(id) ON DELETE CASCADE ON UPDATE CASCADE;
CREATE TABLE above(id int NOT NULL, name text, secret text); ALTER TABLE victim INHERIT above;
CREATE VIEW v_some AS SELECT id, name FROM victim;
CREATE VIEW v_note AS SELECT v.id, v.secret AS note FROM victim v;
CREATE VIEW v_deep AS SELECT note AS n2 FROM v_note;
CREATE VIEW v_barrier WITH (security_barrier) AS SELECT secret AS s FROM victim;
CREATE VIEW v_function AS SELECT wipe() AS w;
CREATE VIEW v_where AS SELECT id FROM victim WHERE secret LIKE '%';
CREATE FUNCTION leak() RETURNS SETOF text LANGUAGE sql AS 'SELECT secret FROM public.victim';
CREATE VIEW v_leak AS SELECT * FROM leak() AS l;
CREATE MATERIALIZED VIEW m_note AS SELECT id, secret AS note FROM victim;
CREATE VIEW v_stats AS SELECT most_common_vals::text AS m FROM pg_stats WHERE tablename = 'victim';
CREATE VIEW v_activity AS SELECT query FROM pg_stat_activity;
ANALYZE victim;

-- Types whose values run code.
CREATE DOMAIN dz AS int CHECK (wipe_imm(VALUE) = 1);
CREATE TABLE t_domain(d dz);
CREATE TYPE ct AS (a int);
CREATE FUNCTION ct_int(ct) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE CAST (ct AS int) WITH FUNCTION ct_int(ct) AS ASSIGNMENT;
CREATE FUNCTION ct_bool(ct) RETURNS bool LANGUAGE sql AS 'SELECT public.wipe() = 1';
CREATE CAST (ct AS bool) WITH FUNCTION ct_bool(ct) AS IMPLICIT;
CREATE FUNCTION ct_json(ct) RETURNS json LANGUAGE sql AS 'SELECT to_json(public.wipe())';
CREATE CAST (ct AS json) WITH FUNCTION ct_json(ct);
CREATE TABLE t_ct(c ct); INSERT INTO t_ct VALUES (ROW(1));
CREATE TYPE co AS (a int);
CREATE FUNCTION co_cmp(co, co) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM public.wipe(); RETURN ($1).a - ($2).a; END';
CREATE FUNCTION co_lt(co, co) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT public.co_cmp($1, $2) < 0';
CREATE FUNCTION co_le(co, co) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT public.co_cmp($1, $2) <= 0';
CREATE FUNCTION co_eq(co, co) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT public.co_cmp($1, $2) = 0';
CREATE FUNCTION co_ge(co, co) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT public.co_cmp($1, $2) >= 0';
CREATE FUNCTION co_gt(co, co) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT public.co_cmp($1, $2) > 0';
CREATE OPERATOR < (LEFTARG = co, RIGHTARG = co, FUNCTION = co_lt);
CREATE OPERATOR <= (LEFTARG = co, RIGHTARG = co, FUNCTION = co_le);
CREATE OPERATOR = (LEFTARG = co, RIGHTARG = co, FUNCTION = co_eq);
CREATE OPERATOR >= (LEFTARG = co, RIGHTARG = co, FUNCTION = co_ge);
CREATE OPERATOR > (LEFTARG = co, RIGHTARG = co, FUNCTION = co_gt);
CREATE OPERATOR CLASS co_ops DEFAULT FOR TYPE co USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 co_cmp(co, co);
CREATE TABLE t_co(c co); INSERT INTO t_co VALUES (ROW(1)), (ROW(2));
CREATE FUNCTION op_wipe(int, int) RETURNS bool LANGUAGE sql AS 'SELECT public.wipe() = 1';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = op_wipe);
CREATE FUNCTION op_prefix(int) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE OPERATOR !!! (RIGHTARG = int, FUNCTION = op_prefix);

-- Functions in every shape in which they are called.
CREATE FUNCTION wipe_variadic(VARIADIC int[] DEFAULT '{}') RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION wipe_named(a int DEFAULT 1, b int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION wipe_row(victim) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION wipe_state(int, int) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE AGGREGATE wipe_aggregate(int) (SFUNC = wipe_state, STYPE = int, INITCOND = '0');
CREATE PROCEDURE wipe_procedure() LANGUAGE sql AS 'DELETE FROM public.victim';
CREATE FUNCTION public.ceil(bigint) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
-- They became syntax in PostgreSQL 16 and 17.
CREATE FUNCTION json_array(int) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_array() RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_object() RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_arrayagg(int) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_scalar(int) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json(int) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_serialize(int) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_exists(text, text) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_query(text, text) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION json_value(text, text) RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';
CREATE FUNCTION merge_action() RETURNS int LANGUAGE sql AS 'SELECT public.wipe()';

-- Values that detectors must find wherever they stand.
CREATE TYPE pair AS (a int, b text);
CREATE TABLE t_values(note text, list text[], j json, jb jsonb, x xml, fixed char(30), both_ pair, b bytea, n name, v varchar);
INSERT INTO t_values SELECT s, ARRAY[s], to_json(s), to_jsonb(s), xmlelement(name a, s), s, ROW(1, s)::pair, s::bytea, s, s
    FROM (VALUES ('call 078-05-1120 now')) w(s);
SELECT lo_from_bytea(777, '078-05-1120');
CREATE TABLE t_unique(note text UNIQUE); INSERT INTO t_unique VALUES ('call 078-05-1120 now');
CREATE TABLE t_short(note text CHECK (length(note) < 5));

-- What PostgreSQL lets everybody do, and fills the disk, or keeps others from working. It is run again at each
-- start: another version of PostgreSQL has other functions, and a dump has nothing of them.

do $$
declare
    each regprocedure;
begin
    for each in
        select oid from pg_proc where pronamespace = 'pg_catalog'::regnamespace
        and proname ~ '^(lo_|lo(read|write)$|pg_(try_)?advisory|pg_sleep|pg_logical_emit|pg_export_snapshot|pg_notify)'
    loop
        execute format('revoke execute on function %s from public', each);
    end loop;
end $$;
grant execute on function pg_notify to pipeline;

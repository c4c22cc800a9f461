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

grant execute on function pg_advisory_xact_lock(bigint) to pipeline;

-- The room for the tables. PostgreSQL ends all connections when it cannot write its journal, which lies in the same
-- room: so who adds is refused before that. Without a row, as in a test, there is no limit.

set local role pipeline;

create table if not exists pipeline.room (
    bytes bigint not null, -- that the tables may have
    spare bigint not null -- of these, for one transaction that adds jobs
);

create or replace function pipeline.table_bytes() returns bigint language sql volatile
set search_path = pipeline, pg_catalog, pg_temp as $$
    select sum(pg_total_relation_size(each))
    from unnest('{jobs,needs,attempts,changes,updates}'::regclass[]) each
$$;

-- Adding jobs ends first, then taking them: what is left is for those who finish. Big ones come one at a time when
-- half of the room is used, else each of many would find the same place in it. Small results are not asked about:
-- it takes 0.3 ms, and who takes a job was asked.
create or replace function pipeline.expect_room() returns trigger language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    whole room;
begin
    select * into whole from room;
    if not found then
        return new;
    end if;
    if tg_argv[1] = 'big' and table_bytes() > whole.bytes / 2 then
        perform pg_advisory_xact_lock(2);
    end if;
    if whole.bytes - table_bytes() < whole.spare * tg_argv[0]::numeric then
        raise exception 'gateway.queue is used up' using errcode = 'disk_full';
    end if;
    return new;
end $$;

create or replace trigger room_to_add before insert on pipeline.jobs
    for each statement execute function pipeline.expect_room('1', 'big');
create or replace trigger room_to_take before insert on pipeline.attempts
    for each statement execute function pipeline.expect_room('0.5', '');
create or replace trigger room_for_results before update of results on pipeline.attempts
    for each row when (octet_length(new.results) > 16384) execute function pipeline.expect_room('0.25', 'big');

reset role;

-- SIZE are the bytes of the room's filesystem: less all that is not a table, and the journal.
create or replace function pipeline.keep_room(size bigint) returns void language sql
set search_path = pipeline, pg_catalog, pg_temp as $$
    delete from room;
    insert into room
    select size - sum(pg_database_size(oid)) + table_bytes()
            - pg_size_bytes(current_setting('max_wal_size')) * 5 / 4, greatest(16000000, size / 16)
    from pg_database;
$$;
revoke execute on function pipeline.keep_room from public;

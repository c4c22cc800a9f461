-- The boxes, and who keeps them: the user postgres of the gateway alone.

insert into pipeline.versions (version) values (5);

-- A box may set what it likes for its role, but for the last three; guard() ends what does not keep to them.
create function pipeline.keep_settings(box_name text) returns void
language plpgsql set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    setting text;
begin
    execute format('alter role %I reset all', box_name);
    foreach setting in array array[
        'statement_timeout = ''30s''', 'lock_timeout = ''20s''', 'idle_in_transaction_session_timeout = ''10s''',
        'temp_file_limit = ''16MB''', 'log_min_messages = fatal', 'log_min_error_statement = panic'
    ] loop
        execute format('alter role %I set %s', box_name, setting);
    end loop;
end $$;

-- Puts a box out. It may neither connect nor call a function without its roles, and it cannot keep anybody
-- from taking them: so that is committed first. The role itself stays; to drop it could fail.
create procedure pipeline.revoke_box(box_name text) language plpgsql as $$
declare
    each bigint;
    left_over integer;
    quiet integer := 0;
begin
    if not exists (select from pipeline.boxes where name = box_name) then
        perform pipeline.wrong(format('there is no box %s', box_name));
    end if;
    if to_regrole(quote_ident(box_name)) is not null then
        execute format('revoke pipeline_worker, pipeline_director from %I', box_name);
        commit;
        while quiet < 3 loop -- one that was just coming in is not seen at once
            select count(pg_terminate_backend(pid, 1000)) into left_over
            from pg_stat_activity where usesysid = to_regrole(quote_ident(box_name))::oid;
            quiet := case left_over when 0 then quiet + 1 else 0 end;
            commit;
            perform pg_sleep(0.1);
        end loop;
    end if;
    update pipeline.boxes set revoked = coalesce(revoked, now()) where name = box_name;
    for each in select id from pipeline.attempts where box = box_name and ended is null order by id loop
        perform pipeline.lose(each, null);
    end loop;
    update pipeline.updates set lease = '-infinity' where box = box_name and state = 'taken';
    commit;
end $$;

-- Takes over the ended jobs of the ledger that a gateway of an older version had. How many are new.
create function pipeline.import_ledger(old jsonb) returns bigint
language plpgsql set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    added bigint;
begin
    with given as (
        select distinct on (job) * from jsonb_to_recordset(old) as g (job text, test text, model text,
            items text[], state text, priority bigint, results text, reason text, log text)
    ), made as (
        insert into jobs (id, test, model, items, priority, state, missing)
        select job, test, model, coalesce(items, '{}'), priority, state, 0 from given
        where state in ('done', 'failed') and job = job_id(test, model, coalesce(items, '{}'))
        on conflict do nothing returning id
    ), ran as (
        insert into attempts (job, box, worker, lease, ended, how, results, reason, log)
        select job, 'root', 'of an older version', now(), now(),
            case state when 'done' then 'good' else 'failed' end, results, reason, log
        from given join made on made.id = given.job
        returning id, job, how
    )
    select count(*) into added from ran;
    update jobs set good = a.id from attempts a where a.job = jobs.id and a.how = 'good' and jobs.good is null;
    return added;
end $$;

-- Ends the connections of boxes that hold up others, and of those that are revoked: a box can set its own
-- timeouts. An honest box is in a transaction only while the database answers, has no cursor, and reads what it
-- is told. How many these were.
create function pipeline.guard() returns bigint
language plpgsql set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    each text;
    ended bigint;
begin
    for each in
        select name from boxes join pg_db_role_setting on setrole = to_regrole(quote_ident(name))::oid
        where octet_length(setconfig::text) > 1000
    loop
        perform keep_settings(each);
    end loop;
    with ours as (
        select a.*, b.name, b.owner, b.revoked from pg_stat_activity a join boxes b on b.name = a.usename
    ), files as ( -- a statement's temporary files are named by its process
        select substring(name from '^pgsql_tmp([0-9]+)[.]')::integer as pid, sum(size) as bytes
        from pg_ls_tmpdir() group by 1
    ), in_box as (
        select pid, owner, backend_start, row_number() over (partition by name order by backend_start, pid) as place
        from ours
    ), in_owner as (
        select pid, backend_start,
            row_number() over (partition by owner order by place, backend_start, pid) as place
        from in_box
    ), in_all as (
        select pid, row_number() over (order by place, backend_start, pid) as place from in_owner
    )
    select count(pg_terminate_backend(pid)) into ended
    from ours a left join files using (pid) join in_all using (pid)
    where a.revoked is not null
        or a.xact_start < clock_timestamp() - interval '1 minute'
        or a.state like 'idle in transaction%' and a.state_change < clock_timestamp() - interval '2 seconds'
        or a.xact_start < clock_timestamp() - interval '5 seconds' and a.wait_event_type is distinct from 'Lock'
            and a.pid in (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w
                where w.wait_event_type = 'Lock')
        -- a cursor that outlives its transaction
        or a.state = 'idle' and files.bytes > 0
        or files.bytes > 0 and (select sum(bytes) from files) > 128000000
        -- who listens and does not read has all notifications kept, on the disk
        or pg_notification_queue_usage() > 0.001
            and (a.xact_start < clock_timestamp() - interval '2 seconds' or a.wait_event = 'ClientWrite')
        -- each owner has as many connections as each other, and so has each box of an owner, once they are few
        or in_all.place > 0.8 * current_setting('max_connections')::integer;
    return ended;
end $$;

-- It makes them, so everybody might call them.
revoke execute on routine pipeline.keep_settings, pipeline.revoke_box, pipeline.guard,
    pipeline.import_ledger from public;

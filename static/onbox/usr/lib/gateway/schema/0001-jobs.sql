-- Queue and ledger of the pipeline: roles, tables and what boxes may do. The user postgres runs this file
-- once, in one transaction, in a database of its own; a later change is a file of its own.
--
-- A box logs in by a role of its own and has no right on any table. It may call the functions that are
-- granted at the end. They have the rights of their owner, the role pipeline, and know the box as
-- session_user, which a box cannot change. All times are the database's own.

do $$
declare
    role_name text;
begin
    foreach role_name in array array['pipeline', 'pipeline_worker', 'pipeline_director', 'pipeline_operator'] loop
        if to_regrole(role_name) is null then
            execute format('create role %I nologin', role_name);
        end if;
    end loop;
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to pipeline_worker, pipeline_director, pipeline_operator',
        current_database());
end $$;

revoke all on schema public from public;
create schema pipeline authorization pipeline;
revoke usage on language plpgsql, sql from public;
grant usage on language plpgsql, sql to pipeline;

set local role pipeline;
set local search_path = pipeline;
alter default privileges for role pipeline revoke execute on functions from public;

create table versions (
    version integer primary key,
    at timestamptz not null default now()
);
insert into versions (version) values (1);

create table boxes (
    name text primary key,
    owner text not null,
    slots integer not null default 256, -- most jobs that it may have at a time
    made timestamptz not null default now(),
    revoked timestamptz
);

create table updates (
    id bigint generated always as identity primary key,
    kimid text not null check (length(kimid) <= 300),
    priority bigint not null,
    status text not null check (status in ('approved', 'pending')),
    state text not null default 'ready' check (state in ('ready', 'taken', 'done', 'failed')),
    after timestamptz not null default '-infinity', -- nobody takes it before
    box text references boxes,
    lease timestamptz, -- of who has it, until then
    lost integer not null default 0, -- how often who had it was lost
    note text not null default '',
    made timestamptz not null default now(),
    made_by text not null default session_user,
    ended timestamptz
);
create index updates_ready on updates (priority, id) where state = 'ready';
create index updates_taken on updates (lease) where state = 'taken';

create table jobs (
    id text primary key check (length(id) <= 100),
    number bigint generated always as identity,
    test text not null check (length(test) <= 300),
    model text not null check (length(model) <= 300),
    items text[] not null check (cardinality(items) <= 100),
    priority bigint not null,
    state text not null check (state in ('waiting', 'ready', 'running', 'done', 'failed', 'cancelled')),
    missing integer not null, -- how many of the jobs that it needs have no result yet
    lost integer not null default 0, -- how many of its workers were lost since it was made, or retried
    after timestamptz not null default '-infinity', -- nobody takes it before
    good bigint, -- the attempt whose results count: the first good one
    update bigint references updates,
    made timestamptz not null default now(),
    made_by text not null default session_user
);
create index jobs_ready on jobs (priority, number) where state = 'ready';
create index jobs_failed on jobs (number) where state = 'failed';

create table needs (
    job text not null references jobs,
    needs text not null references jobs,
    primary key (job, needs)
);
create index needs_of on needs (needs);

create table attempts (
    id bigint generated always as identity primary key,
    job text not null references jobs,
    box text not null references boxes,
    worker text not null check (length(worker) <= 200),
    taken timestamptz not null default clock_timestamp(),
    lease timestamptz not null,
    ended timestamptz,
    how text check (how in ('good', 'failed', 'given back', 'lost', 'cancelled')),
    seconds double precision,
    results text,
    reason text,
    log text,
    check ((ended is null) = (how is null))
);
create index attempts_of on attempts (job);
create index attempts_running on attempts (lease) where ended is null;
create index attempts_of_box on attempts (box) where ended is null;
create index attempts_unfinished on attempts (box, ended) where how in ('given back', 'lost');
create index attempts_ended on attempts (ended) where how in ('good', 'failed');

create table alarms (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    job text not null references jobs,
    first bigint not null references attempts,
    second bigint not null references attempts
);

create table changes (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    who text not null default session_user,
    job text not null,
    state text not null
);
create index changes_of on changes (job);

create function note_made() returns trigger language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
begin
    insert into changes (job, state) select id, state from made;
    return null;
end $$;

create function note_changed() returns trigger language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
begin
    insert into changes (job, state)
    select made.id, made.state from made join gone using (id) where made.state <> gone.state;
    return null;
end $$;

create trigger made after insert on jobs referencing new table as made
    for each statement execute function note_made();
create trigger changed after update on jobs referencing new table as made old table as gone
    for each statement execute function note_changed();

-- Anybody may ask.
create function version() returns integer language sql stable security definer
set search_path = pipeline, pg_catalog, pg_temp
return (select max(version) from versions);

-- A worker's and a director's lease: from 3 s to an hour from now.
create function lease_end(seconds double precision) returns timestamptz language sql volatile
set search_path = pipeline, pg_catalog, pg_temp
return clock_timestamp() + make_interval(secs => least(3600, greatest(3, coalesce(seconds, 0))));

create function lost_error(what text) returns void language plpgsql as $$
begin
    raise exception 'the % is not this box''s any more', what using errcode = 'PL001';
end $$;

create function wrong(what text) returns void language plpgsql as $$
begin
    raise exception '%', what using errcode = 'PL002';
end $$;

-- The running attempt ID of this box, locked.
create function held(attempt bigint) returns attempts language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    found_one attempts;
begin
    select * into found_one from attempts
    where id = attempt and box = session_user and ended is null and lease >= clock_timestamp()
    for no key update;
    if not found then
        perform lost_error('job');
    end if;
    return found_one;
end $$;

-- Ends an attempt that nobody will finish, and has its job run again or, after three lost workers, not. When the
-- database itself went down meanwhile, and took the worker's connection with it, that is not held against the job.
create function lose(attempt bigint, said text) returns void language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    found_job text;
    since timestamptz;
    counted integer;
    lives constant integer := 3;
begin
    update attempts set ended = clock_timestamp(), how = 'lost', log = said,
        reason = 'its worker was lost'
    where id = attempt and ended is null
    returning job, taken into found_job, since;
    if found then
        counted := (since > pg_postmaster_start_time())::integer;
        update jobs set lost = lost + counted, state = case when lost + counted < lives then 'ready'
            when good is null then 'failed' else 'done' end
        where id = found_job and state = 'running';
        perform pg_notify('pipeline_jobs', '');
    end if;
end $$;

create function reap() returns void language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    each bigint;
begin
    for each in
        select id from attempts where ended is null and lease < clock_timestamp()
        order by lease limit 20 for no key update skip locked
    loop
        perform lose(each, null);
    end loop;
end $$;

-- A worker's calls. A slot of a box that starts has lost what it had: LOGS has the end of each such log.
create function enter(worker text, logs jsonb) returns void language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    each record;
begin
    for each in
        select id, job from attempts a
        where a.box = session_user and a.worker = enter.worker and ended is null
        order by id for no key update
    loop
        perform lose(each.id, left(logs ->> each.job, 12000));
    end loop;
    update attempts a set log = left(logs ->> a.job, 12000)
    where a.job in (select jsonb_object_keys(logs)) and a.how = 'lost' and a.log is null
        and a.box = session_user and a.worker = enter.worker;
end $$;

create function take(worker text, lease_seconds double precision)
returns table (attempt bigint, job text, test text, model text, items text[], given jsonb)
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    most integer;
    chosen text;
begin
    perform reap();
    select slots into most from boxes where name = session_user and revoked is null;
    if not found then
        perform wrong('this box has no account');
    end if;
    if (select count(*) from attempts a where a.box = session_user and a.ended is null) >= most then
        perform wrong(format('this box has %s jobs already', most));
    end if;
    if (select count(*) from (
            select from attempts a where a.box = session_user and a.how in ('given back', 'lost')
            and a.ended > now() - interval '1 hour' limit 10000
        ) returned) = 10000 then
        perform wrong('this box has given back too many jobs: it may take more in an hour');
    end if;
    select j.id into chosen from jobs j where j.state = 'ready' and j.after <= clock_timestamp()
    order by j.priority, j.number limit 1 for no key update skip locked;
    if not found then
        return;
    end if;
    update jobs j set state = 'running' where j.id = chosen;
    insert into attempts as a (job, box, worker, lease)
    values (chosen, session_user, take.worker, lease_end(lease_seconds)) returning a.id into attempt;
    return query
    select take.attempt, j.id, j.test, j.model, j.items, coalesce((
        select jsonb_object_agg(other.test, coalesce(first.results, ''))
        from needs n join jobs other on other.id = n.needs join attempts first on first.id = other.good
        where n.job = chosen
    ), '{}')
    from jobs j where j.id = chosen;
end $$;

-- One that comes within a second of the last changes nothing: nobody fills the disk so.
create function touch(attempt bigint, lease_seconds double precision) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine attempts := held(attempt);
    until timestamptz := lease_end(lease_seconds);
begin
    if until > mine.lease + interval '1 second' then
        update attempts set lease = until where id = attempt;
    end if;
end $$;

-- RESULTS is null when it is too long to be given to another job. The first good attempt counts; one that
-- differs from it is an alarm.
create function finish(attempt bigint, seconds double precision, results text) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine attempts;
    before attempts;
    woken integer;
begin
    if length(results) > 1000000 then
        perform wrong('results of more than 1,000,000 characters');
    end if;
    lock table needs in row share mode; -- see add_jobs
    mine := held(attempt);
    update attempts a set ended = clock_timestamp(), how = 'good', seconds = finish.seconds,
        results = finish.results
    where a.id = attempt;
    select a.* into before from jobs j join attempts a on a.id = j.good where j.id = mine.job;
    update jobs set state = 'done', good = coalesce(good, attempt) where id = mine.job;
    if before.id is not null then
        if before.results is distinct from finish.results then
            insert into alarms (job, first, second) values (mine.job, before.id, attempt);
        end if;
        return;
    end if;
    perform from jobs where id in (select n.job from needs n where n.needs = mine.job)
    order by id for no key update; -- in one order, so that no two wait for each other
    with woke as (
        update jobs set missing = missing - 1,
            state = case when missing = 1 and state = 'waiting' then 'ready' else state end
        where id in (select n.job from needs n where n.needs = mine.job)
        returning state
    )
    select count(*) into woken from woke where state = 'ready';
    if woken > 0 then
        perform pg_notify('pipeline_jobs', '');
    end if;
end $$;

create function fail(attempt bigint, reason text, log text) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine attempts := held(attempt);
begin
    update attempts a set ended = clock_timestamp(), how = 'failed', reason = left(fail.reason, 2000),
        log = right(fail.log, 12000)
    where a.id = attempt;
    -- a job that has a result keeps it, whatever becomes of a later attempt
    update jobs set state = case when good is null then 'failed' else 'done' end where id = mine.job;
end $$;

create function give_back(attempt bigint, delay_seconds double precision) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine attempts := held(attempt);
    delay interval := make_interval(secs => least(3600, greatest(0, coalesce(delay_seconds, 0))));
begin
    update attempts set ended = clock_timestamp(), how = 'given back' where id = attempt;
    update jobs set state = 'ready', after = clock_timestamp() + delay where id = mine.job;
    if delay = interval '0' then
        perform pg_notify('pipeline_jobs', '');
    end if;
end $$;

-- A director's calls.
create function take_update(lease_seconds double precision)
returns table (id bigint, kimid text, priority bigint, status text)
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    chosen bigint;
begin
    if not exists (select from boxes where name = session_user and revoked is null) then
        perform wrong('this box has no account');
    end if;
    update updates u set lost = lost + 1, state = case when lost + 1 >= 3 then 'failed' else 'ready' end,
        note = case when lost + 1 >= 3 then 'its director was lost 3 times' else '' end
    where u.id in (
        select t.id from updates t where t.state = 'taken' and t.lease < clock_timestamp()
        for no key update skip locked
    );
    select u.id into chosen from updates u where u.state = 'ready' and u.after <= clock_timestamp()
    order by u.priority, u.id limit 1 for no key update skip locked;
    if not found then
        return;
    end if;
    return query
    update updates u set state = 'taken', box = session_user, lease = lease_end(lease_seconds)
    where u.id = chosen returning u.id, u.kimid, u.priority, u.status;
end $$;

create function held_update(asked bigint) returns updates language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    found_one updates;
begin
    select * into found_one from updates
    where id = asked and box = session_user and state = 'taken' and lease >= clock_timestamp()
    for no key update;
    if not found then
        perform lost_error('update');
    end if;
    return found_one;
end $$;

create function touch_update(asked bigint, lease_seconds double precision) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine updates := held_update(asked);
    until timestamptz := lease_end(lease_seconds);
begin
    if until > mine.lease + interval '1 second' then
        update updates set lease = until where id = asked;
    end if;
end $$;

-- Adds the jobs that are new; how many these are. JOBS is a list of {job, test, model, items, needs}, and
-- has each job before those that need it. Known jobs stay as they are. No job ends meanwhile: else one
-- that waits for it could miss that, and wait for ever.
create function add_jobs(asked bigint, new_jobs jsonb) returns integer
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine updates := held_update(asked);
    added text[];
begin
    lock table needs in exclusive mode;
    with given as materialized (
        select * from rows from (
            jsonb_to_recordset(new_jobs) as (job text, test text, model text, items text[], needs text[])
        ) with ordinality as g (job, test, model, items, needs, number)
    ), counted as (
        select g.*, (
            select count(distinct n) from unnest(g.needs) n
            where not exists (select from jobs j where j.id = n and j.good is not null)
        ) as missing from given g
    ), made as (
        insert into jobs (id, test, model, items, priority, state, missing, update)
        select job, test, model, coalesce(items, '{}'), mine.priority,
            case when missing > 0 then 'waiting' else 'ready' end, missing, asked
        from counted order by number
        on conflict do nothing returning id
    )
    select coalesce(array_agg(id), '{}') into added from made;
    insert into needs (job, needs)
    select distinct g.job, n
    from jsonb_to_recordset(new_jobs) as g (job text, needs text[]), unnest(g.needs) n
    where g.job = any (added);
    if cardinality(added) > 0 then
        perform pg_notify('pipeline_jobs', '');
    end if;
    return cardinality(added);
end $$;

create function end_update(asked bigint, said text) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
begin
    perform held_update(asked);
    update updates set state = 'done', ended = clock_timestamp(), note = left(said, 2000) where id = asked;
end $$;

create function fail_update(asked bigint, reason text) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
begin
    perform held_update(asked);
    update updates set state = 'failed', ended = clock_timestamp(), note = left(reason, 2000)
    where id = asked;
end $$;

create function give_back_update(asked bigint, delay_seconds double precision) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
begin
    perform held_update(asked);
    update updates set state = 'ready',
        after = clock_timestamp() + make_interval(secs => least(3600, greatest(0, delay_seconds)))
    where id = asked;
end $$;

-- An operator's calls.
create function submit(kimid text, priority bigint, status text) returns bigint
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    made_id bigint;
begin
    insert into updates (kimid, priority, status) values (submit.kimid, submit.priority, submit.status)
    returning id into made_id;
    perform pg_notify('pipeline_updates', '');
    return made_id;
end $$;

-- Has jobs that ended run again: the named ones, or all that failed (null). How many these are.
create function retry(asked text[]) returns bigint language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    changed bigint;
begin
    lock table needs in row share mode;
    with again as (
        select id from jobs
        where case when asked is null then state = 'failed'
            else id = any (asked) and state in ('failed', 'cancelled', 'done') end
        order by id for no key update
    )
    update jobs set lost = 0, after = '-infinity',
        state = case when missing > 0 then 'waiting' else 'ready' end
    where id in (select id from again);
    get diagnostics changed = row_count;
    perform pg_notify('pipeline_jobs', '');
    return changed;
end $$;

-- Ends jobs that have not ended; a worker that runs one loses it. How many these are.
create function cancel(asked text[]) returns bigint language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    changed bigint;
begin
    perform from attempts where job = any (asked) and ended is null order by id for no key update;
    update attempts set ended = clock_timestamp(), how = 'cancelled' where job = any (asked) and ended is null;
    update jobs set state = 'cancelled' where id = any (asked) and state in ('waiting', 'ready', 'running');
    get diagnostics changed = row_count;
    return changed;
end $$;

-- All that is asked about the queue at one moment.
create function overview() returns jsonb language sql stable security definer
set search_path = pipeline, pg_catalog, pg_temp
return jsonb_build_object(
    'jobs', (select coalesce(jsonb_object_agg(state, n), '{}')
        from (select state, count(*) n from jobs group by state) s),
    'updates', (select coalesce(jsonb_object_agg(state, n), '{}')
        from (select state, count(*) n from updates group by state) s),
    -- what each says of itself
    'workers', (select count(*) from pg_stat_activity a join boxes b on b.name = a.usename
        where application_name = 'pipeline_jobs'),
    'directors', (select count(*) from pg_stat_activity a join boxes b on b.name = a.usename
        where application_name = 'pipeline_updates'),
    'running', (select coalesce(jsonb_agg(jsonb_build_object('job', job, 'box', box, 'worker', worker,
            'seconds', extract(epoch from clock_timestamp() - taken)) order by id), '[]')
        from attempts where ended is null),
    'minute', (select jsonb_build_object('good', count(*) filter (where how = 'good'),
            'failed', count(*) filter (where how = 'failed'))
        from attempts where how in ('good', 'failed') and ended > now() - interval '1 minute'),
    'failed_updates', (select coalesce(jsonb_agg(jsonb_build_object('kimid', kimid, 'why', note) order by id), '[]')
        from (select * from updates where state = 'failed' order by id desc limit 10) u),
    -- jobs that wait for one that will not come by itself
    'stuck', (select coalesce(jsonb_agg(jsonb_build_object('job', job, 'needs', needs, 'state', state)), '[]')
        from (select n.job, n.needs, other.state from jobs other join needs n on n.needs = other.id
            join jobs waiting on waiting.id = n.job
            where other.state in ('failed', 'cancelled') and waiting.state = 'waiting' limit 100) s),
    'alarms', (select count(*) from alarms)
);

create function attempts_of(asked text) returns jsonb language sql stable security definer
set search_path = pipeline, pg_catalog, pg_temp
return (select coalesce(jsonb_agg(jsonb_build_object('attempt', id, 'box', box, 'worker', worker,
        'taken', taken, 'ended', ended, 'how', how, 'seconds', seconds, 'reason', reason, 'log', log)
        order by id), '[]')
    from attempts where job = asked);

reset role;
-- With the rights of who calls them: the user postgres of the gateway alone.
create function pipeline.add_box(box_name text, box_owner text, kinds text[]) returns void
language plpgsql set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    kind text;
begin
    if box_name !~ '^[a-z_][a-z0-9_-]{0,31}$' or box_name ~ '^(pipeline|pg_|postgres)' then
        perform wrong(format('%s is no name of a box', box_name));
    end if;
    insert into boxes (name, owner) values (box_name, box_owner)
    on conflict (name) do update set owner = box_owner, revoked = null;
    if to_regrole(quote_ident(box_name)) is null then
        execute format('create role %I', box_name);
    end if;
    execute format('alter role %I login connection limit 260', box_name);
    foreach kind in array kinds loop
        execute format('grant %I to %I', 'pipeline_' || kind, box_name);
    end loop;
    -- what an honest box keeps to; guard() ends what does not
    execute format('alter role %I set statement_timeout = ''30s''', box_name);
    execute format('alter role %I set lock_timeout = ''20s''', box_name);
    execute format('alter role %I set idle_in_transaction_session_timeout = ''10s''', box_name);
    execute format('alter role %I set temp_file_limit = ''64MB''', box_name); -- a box cannot change it
end $$;

create function pipeline.revoke_box(box_name text) returns void
language plpgsql set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    each bigint;
begin
    update boxes set revoked = coalesce(revoked, now()) where name = box_name;
    if not found then
        perform wrong(format('there is no box %s', box_name));
    end if;
    if to_regrole(quote_ident(box_name)) is not null then
        execute format('alter role %I nologin', box_name);
        perform pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = box_name;
        execute format('drop role %I', box_name);
    end if;
    for each in select id from attempts where box = box_name and ended is null order by id loop
        perform lose(each, null);
    end loop;
    update updates set lease = '-infinity' where box = box_name and state = 'taken';
end $$;

-- Has a box for each of these names, and no other. Boxes of one owner share a key, so far, and so a name.
create function pipeline.keep_boxes(names text[]) returns void
language plpgsql set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    each text;
begin
    lock table boxes in share row exclusive mode; -- two of these at once would both add a box
    for each in select name from boxes where revoked is null and name <> all (names) loop
        perform revoke_box(each);
    end loop;
    foreach each in array names loop
        if not exists (select from boxes where name = each and revoked is null) then
            perform add_box(each, each, '{worker,director}');
        end if;
    end loop;
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
        where state in ('done', 'failed')
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

-- Ends the connections of boxes that are in one transaction for a minute: a box can set its own timeouts.
create function pipeline.guard() returns bigint
language sql volatile set search_path = pipeline, pg_catalog, pg_temp
return (select count(pg_terminate_backend(pid)) from pg_stat_activity a join boxes b on b.name = a.usename
    where a.xact_start < clock_timestamp() - interval '1 minute');

grant usage on schema pipeline to pipeline_worker, pipeline_director, pipeline_operator;
grant execute on function pipeline.version() to pipeline_worker, pipeline_director, pipeline_operator;
grant execute on function pipeline.enter, pipeline.take, pipeline.touch, pipeline.finish, pipeline.fail,
    pipeline.give_back to pipeline_worker;
grant execute on function pipeline.take_update, pipeline.touch_update, pipeline.add_jobs,
    pipeline.end_update, pipeline.fail_update, pipeline.give_back_update to pipeline_director;
grant execute on function pipeline.submit, pipeline.retry, pipeline.cancel, pipeline.overview,
    pipeline.attempts_of to pipeline_operator;
revoke execute on function pipeline.add_box, pipeline.revoke_box, pipeline.keep_boxes, pipeline.guard,
    pipeline.import_ledger from public;

-- What PostgreSQL lets everybody do, and fills the disk, or keeps others from working.
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

-- What a worker may call.

set local role pipeline;
set local search_path = pipeline;
insert into versions (version) values (2);

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

-- Ends an attempt that nobody will finish, and has its job run again or, see after_losses, not. When the database
-- itself went down meanwhile, and took the worker's connection with it, that is not held against the job.
create function lose(attempt bigint, said text) returns void language plpgsql
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    ended_one attempts;
    counted text[];
begin
    update attempts set ended = clock_timestamp(), how = 'lost', log = said,
        reason = 'its worker was lost'
    where id = attempt and ended is null
    returning * into ended_one;
    if found then
        counted := case when ended_one.taken > pg_postmaster_start_time() then array[ended_one.box] else '{}' end;
        update jobs set lost = lost || counted,
            state = case when after_losses(lost || counted, other_worker(ended_one.box)) = 'ready' then 'ready'
                when good is null then 'failed' else 'done' end
        where id = ended_one.job and state = 'running';
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
    given_fits boolean;
    others boolean;
begin
    perform reap();
    -- one take of a box at a time: two would count the same jobs
    select slots into most from boxes where name = session_user and revoked is null for no key update;
    if not found then
        perform wrong('this box has no account');
    end if;
    update boxes set worked = now()
    where name = session_user and (worked > now() - interval '1 minute') is not true;
    others := other_worker(session_user);
    if (select count(*) from attempts a where a.box = session_user and a.ended is null) >= most then
        perform wrong(format('this box has %s jobs already', most));
    end if;
    if (select count(*) from (
            select from attempts a where a.box = session_user and a.how in ('given back', 'lost', 'failed')
            and a.ended > now() - interval '1 hour' limit 2000
        ) returned) = 2000 then
        perform wrong('this box has given back, lost or failed 2000 jobs in an hour: it may take more later');
    end if;
    loop
        select j.id into chosen from jobs j
        where j.state = 'ready' and (j.after <= clock_timestamp() or j.rests_for <> session_user)
        and may_try(j.lost, others)
        order by j.priority, j.number limit 1 for no key update skip locked;
        if not found then
            return;
        end if;
        select coalesce(sum(octet_length(first.results)), 0) <= 16000000 and count(*) = count(first.results)
        into given_fits
        from needs n join jobs other on other.id = n.needs left join attempts first on first.id = other.good
        where n.job = chosen;
        exit when given_fits;
        insert into attempts as a (job, box, worker, lease, ended, how, reason)
        values (chosen, session_user, take.worker, now(), now(), 'failed',
            'the results that it needs are too long to be given to it');
        update jobs j set state = 'failed' where j.id = chosen;
    end loop;
    update jobs j set state = 'running' where j.id = chosen;
    insert into attempts as a (job, box, worker, lease)
    values (chosen, session_user, take.worker, lease_end(lease_seconds)) returning a.id into attempt;
    return query
    select take.attempt, j.id, j.test, j.model, j.items, coalesce((
        select jsonb_object_agg(other.test, first.results)
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
    if mine.taken < now() - interval '30 days' then -- longer than any job may run
        perform lost_error('job');
    end if;
    if until > mine.lease + interval '1 second' then
        update attempts set lease = until where id = attempt;
    end if;
end $$;

-- RESULTS is null when it is too long to be given to another job; DIGEST is of the whole. The first good
-- attempt counts; one that differs from it is an alarm.
create function finish(attempt bigint, seconds double precision, results text, digest text default null)
returns void language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine attempts := held(attempt);
    first bigint;
    woken integer;
begin
    -- Locked in full, before anything of it is read: nobody finishes it meanwhile, and nobody makes a job
    -- that needs it.
    select good into first from jobs where id = mine.job for update;
    update attempts a set ended = clock_timestamp(), how = 'good', seconds = finish.seconds,
        results = finish.results,
        digest = coalesce(encode(sha256(convert_to(finish.results, 'utf8')), 'hex'), finish.digest)
    where a.id = attempt returning * into mine;
    update jobs set state = 'done', good = coalesce(good, attempt) where id = mine.job;
    if first is not null then
        insert into alarms (job, first, second)
        select a.job, a.id, attempt from attempts a where a.id = first and a.digest is distinct from mine.digest;
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
    update attempts a set ended = clock_timestamp(), how = 'failed', reason = coalesce(left(fail.reason, 2000), ''),
        log = right(fail.log, 12000)
    where a.id = attempt;
    -- a job that has a result keeps it, whatever becomes of a later attempt
    update jobs set state = case when good is null then 'failed' else 'done' end
    where id = mine.job and state = 'running';
end $$;

create function give_back(attempt bigint, delay_seconds double precision) returns void
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine attempts := held(attempt);
begin
    update attempts set ended = clock_timestamp(), how = 'given back' where id = attempt;
    -- another box may take it at once
    update jobs set state = 'ready', after = rest_end(delay_seconds), rests_for = session_user
    where id = mine.job and state = 'running';
    perform pg_notify('pipeline_jobs', '');
end $$;

grant execute on function enter, take, touch, finish, fail, give_back to pipeline_worker;

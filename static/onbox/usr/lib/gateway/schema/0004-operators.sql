-- What an operator may call.

set local role pipeline;
set local search_path = pipeline;
insert into versions (version) values (4);

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
    with again as (
        select id from jobs j
        where case when asked is null then state = 'failed'
            else id = any (asked) and state in ('failed', 'cancelled', 'done') end
        and not exists (select from attempts a where a.job = j.id and a.ended is null)
        order by id for no key update
    )
    update jobs set lost = '{}', after = '-infinity',
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
    perform from jobs where id = any (asked) order by id for no key update;
    -- also those that began meanwhile; one that just ends, and so is locked, may end
    update attempts set ended = clock_timestamp(), how = 'cancelled' where id in (
        select id from attempts where job = any (asked) and ended is null
        order by id for no key update skip locked
    );
    update jobs set state = case when good is null then 'cancelled' else 'done' end
    where id = any (asked) and state in ('waiting', 'ready', 'running');
    get diagnostics changed = row_count;
    return changed;
end $$;

-- What this box did counts no more. What is left without a good attempt runs again, and so does all that was
-- given a result of the box, and what failed there. How many jobs these are.
create function disown(box_name text) returns bigint language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    its text[];
    given_it text[];
    changed bigint;
begin
    lock table jobs in exclusive mode;
    select coalesce(array_agg(j.id), '{}') into its
    from jobs j join attempts a on a.id = j.good where a.box = box_name;
    with recursive tainted (id) as (
        select n.job from needs n where n.needs = any (its)
        union
        select n.job from needs n join tainted t on n.needs = t.id
    )
    select coalesce(array_agg(t.id), '{}') into given_it from tainted t
    where exists (select from attempts a where a.job = t.id and (a.how = 'good' or a.ended is null));
    update attempts set how = 'disowned' where how = 'good' and (box = box_name or job = any (given_it));
    update attempts set ended = clock_timestamp(), how = 'disowned' where ended is null and job = any (given_it);
    update jobs j set good = (select min(a.id) from attempts a where a.job = j.id and a.how = 'good')
    where id = any (its || given_it);
    update jobs j set missing = (
        select count(*) from needs n join jobs other on other.id = n.needs where n.job = j.id and other.good is null
    )
    where id in (select n.job from needs n where n.needs = any (its || given_it));
    update jobs j set lost = '{}', after = '-infinity',
        state = case when missing > 0 then 'waiting' else 'ready' end
    where good is null and (
        state = 'done' or id = any (given_it)
        or state in ('waiting', 'ready') and (state = 'waiting') <> (missing > 0)
        or state = 'failed' and box_name = (
            select a.box from attempts a where a.job = j.id and a.how in ('failed', 'lost') order by a.id desc limit 1
        )
    );
    get diagnostics changed = row_count;
    perform pg_notify('pipeline_jobs', '');
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

grant execute on function submit, retry, cancel, disown, overview, attempts_of to pipeline_operator;

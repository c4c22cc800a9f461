-- What a director may call.

set local role pipeline;
set local search_path = pipeline;
insert into versions (version) values (3);

create function take_update(lease_seconds double precision)
returns table (id bigint, kimid text, priority bigint, status text)
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    chosen bigint;
    others boolean;
begin
    perform from boxes where name = session_user and revoked is null for no key update;
    if not found then
        perform wrong('this box has no account');
    end if;
    update boxes set directed = now()
    where name = session_user and (directed > now() - interval '1 minute') is not true;
    others := other_director(session_user);
    if (select count(*) from updates u where u.state = 'taken' and u.box = session_user
            and u.lease >= clock_timestamp()) >= 16 then
        perform wrong('this box has 16 updates already');
    end if;
    with expired as (
        select t.id, after_losses(t.lost || t.box, other_director(t.box)) as became
        from updates t where t.state = 'taken' and t.lease < clock_timestamp()
        for no key update skip locked
    )
    update updates u set lost = u.lost || u.box, state = e.became,
        note = case e.became when 'failed' then 'its director was lost 3 times' else '' end
    from expired e where e.id = u.id;
    select u.id into chosen from updates u
    where u.state = 'ready' and (u.after <= clock_timestamp() or u.rests_for <> session_user)
    and may_try(u.lost, others)
    order by u.priority, u.id limit 1 for no key update skip locked;
    if not found then
        return;
    end if;
    return query
    update updates u set state = 'taken', box = session_user, taken = now(), lease = lease_end(lease_seconds)
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
    if mine.taken < now() - interval '1 hour' then -- longer than any takes: another director is to have it
        perform lost_error('update');
    end if;
    if until > mine.lease + interval '1 second' then
        update updates set lease = until where id = asked;
    end if;
end $$;

create function listed(new_jobs jsonb)
returns table (number bigint, job text, test text, model text, items text[], needs text[])
language sql immutable set search_path = pg_catalog, pg_temp
begin atomic
    select g.number, g.job, g.test, g.model, coalesce(g.items, '{}'), g.needs
    from rows from (
        jsonb_to_recordset(new_jobs) as (job text, test text, model text, items text[], needs text[])
    ) with ordinality as g (job, test, model, items, needs, number);
end;

-- Adds the jobs that are new; how many these are. NEW_JOBS is a list of {job, test, model, items, needs}, and
-- has each job once, after those that it needs, unless they are known: so no jobs wait for each other. Known
-- jobs stay as they are.
create function add_jobs(asked bigint, new_jobs jsonb) returns integer
language plpgsql security definer
set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    mine updates := held_update(asked);
    size bigint := octet_length(new_jobs::text);
    added text[];
begin
    if size > 8000000 or mine.bytes + size > 200000000 then
        perform wrong('more than 8 MB of jobs at a time, or 200 MB of one update');
    end if;
    if exists (select from listed(new_jobs) group by job having count(*) > 1) then
        perform wrong('a job is there twice');
    end if;
    if exists (select from listed(new_jobs) g where cardinality(g.needs) > 100) then
        perform wrong('a job needs more than 100 others');
    end if;
    if exists (
        select from listed(new_jobs) g, unnest(g.needs) n
        left join listed(new_jobs) e on e.job = n left join jobs j on j.id = n
        where j.id is null and (e.number < g.number) is not true
    ) then
        perform wrong('a job needs one that is not known');
    end if;
    update updates set bytes = bytes + size where id = asked;
    -- in the order of their ids, so that no two directors wait for each other; with numbers as listed
    with given as materialized (
        select g.*, nextval('jobs_number_seq') as place
        from (select * from listed(new_jobs) order by number) g
    ), made as (
        insert into jobs (id, number, test, model, items, priority, state, missing, update)
        select job, place, test, model, items, mine.priority,
            case when cardinality(needs) > 0 then 'waiting' else 'ready' end, 0, asked
        from given order by job
        on conflict do nothing returning id
    )
    select coalesce(array_agg(id), '{}') into added from made;
    -- its foreign key waits for whoever finishes a needed job
    insert into needs (job, needs)
    select distinct g.job, n from listed(new_jobs) g, unnest(g.needs) n where g.job = any (added) order by n;
    with counted as (
        select a.id, count(n.needs) filter (where other.good is null) as missing
        from unnest(added) a (id) left join needs n on n.job = a.id left join jobs other on other.id = n.needs
        group by a.id
    )
    update jobs j set missing = c.missing, state = case when c.missing > 0 then 'waiting' else 'ready' end
    from counted c where c.id = j.id and j.state = 'waiting';
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
    -- another box may take it at once
    update updates set state = 'ready', rests_for = session_user, after = rest_end(delay_seconds)
    where id = asked;
end $$;

grant execute on function take_update, touch_update, add_jobs, end_update, fail_update, give_back_update
    to pipeline_director;

-- A box is known by a key of its own, as OWNER.BOX. A gateway of an older version knows OWNER alone: there these
-- functions take the place of others.

insert into pipeline.versions (version) values (6);

create or replace function pipeline.add_box(box_name text, box_owner text, kinds text[]) returns void
language plpgsql set search_path = pipeline, pg_catalog, pg_temp as $$
declare
    kind text;
begin
    if (box_name ~ '^[a-z_][a-z0-9_-]{0,31}([.][a-z0-9][a-z0-9-]{0,26})?$' and box_name !~ '^(pipeline|pg_|postgres|none$|public$)') is not true then
        perform wrong(format('%s is no name of a box', box_name));
    end if;
    if to_regrole(quote_ident(box_name)) is null then
        execute format('create role %I', box_name);
    elsif not exists (select from boxes where name = box_name) then
        perform wrong(format('%s is another role of the database', box_name));
    end if;
    insert into boxes as b (name, owner) values (box_name, box_owner)
    on conflict (name) do update set owner = box_owner, revoked = null where b.revoked is not null;
    if not found then
        perform wrong(format('there is a box %s already', box_name));
    end if;
    execute format('alter role %I login connection limit %s', box_name,
        (select slots + 4 from boxes where name = box_name));
    perform keep_settings(box_name);
    foreach kind in array kinds loop
        execute format('grant %I to %I', 'pipeline_' || kind, box_name);
    end loop;
end $$;

-- Has a box for each of these names, and no other: of OWNER.BOX, and of OWNER, whose key makes boxes.
create or replace procedure pipeline.keep_boxes(names text[]) language plpgsql as $$
declare
    each text;
begin
    perform pg_advisory_lock(1); -- two of these at once would both add a box
    for each in select name from pipeline.boxes where revoked is null and name <> all (names) loop
        call pipeline.revoke_box(each);
    end loop;
    foreach each in array names loop
        if not exists (select from pipeline.boxes where name = each and revoked is null) then
            perform pipeline.add_box(each, split_part(each, '.', 1), '{worker,director}');
        end if;
    end loop;
    perform pg_advisory_unlock(1);
end $$;

revoke execute on routine pipeline.add_box, pipeline.keep_boxes from public;

// Fills the page with /status.json, again and again. Its content goes in as text, never as markup; a
// missing field is shown as "not known".
"use strict";

const POLL = 15000; // milliseconds
const DEADLINE = 10000;
const UNKNOWN = "not known";
const KINDS = { fresh: "good", kept: "warning", golden: "warning", failed: "alarm" };

let data = null; // the latest answer
let age = 0; // its age on arrival, in seconds, by the box's clock
let came = 0; // its arrival, by this browser's clock
let trouble = null; // why there was no answer: [level, words]

const at = (id) => document.getElementById(id);
const now = () => performance.now() / 1000;
const isText = (value) => typeof value === "string" && value !== "";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const object = (value) => (value !== null && typeof value === "object" ? value : {});
const list = (value) => (Array.isArray(value) ? value : []);

function put(element, text) {
  const known = isText(text);
  const shown = known ? text : UNKNOWN;
  if (element.textContent !== shown) element.textContent = shown;
  element.classList.toggle("unknown", !known);
}

function moment(seconds) {
  if (!isNumber(seconds) || Math.abs(seconds) > 8e12) return "";
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function instant(text) {
  return isText(text) ? Date.parse(text) / 1000 : NaN;
}

function span(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

function size(bytes) {
  let value = bytes;
  for (const unit of ["bytes", "KiB", "MiB"]) {
    if (value < 1024) return `${Number(value.toPrecision(4))} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} GiB`;
}

function count(value) {
  return isNumber(value) ? String(value) : "";
}

function lines(values, show) {
  return Object.entries(object(values)).map(([name, value]) => `${name} ${show(value)}`).join("\n");
}

function tile(id, kind, value, note) {
  const place = at(id);
  place.className = `tile ${kind}`;
  put(place.querySelector(".value"), value);
  place.querySelector(".note").textContent = note;
}

function tiles(kindOf) {
  const verdict = object(data.verdict);
  const took = isNumber(data.reset_seconds) ? `took ${data.reset_seconds.toFixed(1)} s` : "";
  const when = instant(data.reset_at);
  const ago = isNumber(when) && isNumber(data.written) ? `${span(data.written - when)} ago` : "";
  const known = Object.hasOwn(KINDS, verdict.name) ? KINDS[verdict.name] : "";
  tile("reset", kindOf("verdict") || known, verdict.name, [ago, took].filter(Boolean).join(", "));

  const percent = data.snapshot_percent;
  const full = isNumber(percent);
  const none = data.mode === "maintenance" ? "none in maintenance" : "";
  const kind = kindOf("snapshot_percent") || (full ? "good" : "");
  tile("snapshot", kind, full ? `${percent.toFixed(1)} %` : none, "");
  const meter = document.querySelector(".meter");
  meter.hidden = !full;
  if (full) {
    meter.setAttribute("aria-valuenow", String(percent));
    meter.firstElementChild.style.width = `${Math.min(100, Math.max(0, percent))}%`;
  }

  const queue = object(data.queue);
  const since = isNumber(queue.since) && isNumber(data.written) ? span(data.written - queue.since) : "";
  const linked = kindOf("queue") || (queue.link === "up" ? "good" : "");
  tile("queue", linked, queue.link, since && `for ${since}`);

  const jobs = object(data.jobs);
  put(at("done"), count(jobs.done));
  put(at("failed"), count(jobs.failed));
}

function details(kindOf) {
  const match = data.initrd_matches === true ? "match" : data.initrd_matches === false ? "do not match" : "";
  const provisiond = object(data.provisiond);
  const ended = moment(provisiond.finished);
  const state = isText(provisiond.state) ? provisiond.state : "";
  const uptime = isNumber(data.uptime) ? `${(data.uptime / 3600).toFixed(1)} h` : "";
  const rows = [
    ["mode", data.mode, data.mode === "failed" ? "alarm" : kindOf("mode")],
    ["last reset", moment(instant(data.reset_at)), ""],
    ["kernel", data.kernel, ""],
    ["kernel and initrd", match, kindOf("initrd_matches") || (match && "good")],
    ["provisiond", state && ended ? `${state}, ${ended}` : state, kindOf("provisiond") || (state === "done" ? "good" : "")],
    ["manifest", data.manifest, "code"],
    ["commit", data.commit, "code"],
    ["versions", lines(data.versions, (version) => (isText(version) ? version : UNKNOWN)), ""],
    ["free", lines(data.free, (bytes) => (isNumber(bytes) ? size(bytes) : UNKNOWN)), kindOf("free")],
    ["system", data.system, ""],
    ["uptime", uptime, ""],
  ];
  at("details").replaceChildren(...rows.map(([name, value, kind]) => {
    const row = document.createElement("tr");
    const head = row.appendChild(document.createElement("th"));
    head.scope = "row";
    head.textContent = name;
    const cell = row.appendChild(document.createElement("td"));
    cell.className = kind;
    put(cell, value);
    return row;
  }));
}

function log() {
  const newest = list(data.log).map(object).reverse();
  at("log").replaceChildren(...newest.map((line) => {
    const item = document.createElement("li");
    const time = item.appendChild(document.createElement("time"));
    time.textContent = moment(line.time) || UNKNOWN;
    const level = item.appendChild(document.createElement("span"));
    level.className = `level ${["info", "warning", "error"].includes(line.level) ? line.level : ""}`;
    level.textContent = isText(line.level) ? line.level : "";
    item.appendChild(document.createElement("span")).textContent = isText(line.text) ? line.text : "";
    return item;
  }));
  at("no-log").hidden = newest.length > 0;
}

function isOld() {
  const interval = isNumber(data.interval) ? data.interval : 60;
  return !(age + now() - came <= 2 * interval);
}

// All that is wrong, as [level, words], the page's own findings first.
function findings() {
  const found = trouble ? [trouble] : [];
  if (!data) return found;
  if (isOld()) {
    const old = span(age + now() - came);
    found.push(["alarm", `this data is ${old} old: the box no longer measures itself`]);
  }
  for (const alarm of list(data.alarms).map(object)) {
    found.push([alarm.level === "warning" ? "warning" : "alarm", isText(alarm.text) ? alarm.text : UNKNOWN]);
  }
  return found;
}

function state() {
  const found = findings();
  const alarms = found.filter(([level]) => level === "alarm").length;
  const level = alarms ? "alarm" : found.length ? "warning" : data ? "good" : "";
  const words = { alarm: "Alarm", warning: "Warning", good: "All is well", "": "Reading…" };
  at("state").className = `state ${level}`;
  put(at("summary"), words[level]);
  const box = `pipeline ${data && isText(data.role) ? data.role : "box"}`;
  document.title = data || found.length ? `${words[level]}: ${box}` : "Pipeline box";
  const said = found.map(([, text]) => text.replace(/\d+ (s|min|h|days) old/, "old")).join("\n");
  // Changed only when the words change, so that a screen reader does not read them out each second.
  if (at("alarms").dataset.said !== said) {
    at("alarms").dataset.said = said;
    at("alarms").replaceChildren(...found.map(([kind, text]) => {
      const item = document.createElement("li");
      item.className = kind;
      item.textContent = text;
      return item;
    }));
  }
  document.querySelector("main").classList.toggle("old", trouble !== null || (data !== null && isOld()));
  if (data) at("age").textContent = `Measured ${moment(data.written)}, ${span(age + now() - came)} ago.`;
}

function show() {
  const alarms = list(data.alarms).map(object);
  const kindOf = (field) => {
    const alarm = alarms.find((one) => one.field === field);
    return alarm ? (alarm.level === "warning" ? "warning" : "alarm") : "";
  };
  put(at("role"), data.role || "Role not known");
  tiles(kindOf);
  details(kindOf);
  log();
}

async function poll() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(DEADLINE) });
    if (answer.status === 503) {
      trouble = ["warning", "the box has not measured itself yet"];
    } else if (!answer.ok) {
      trouble = ["alarm", `the box answers ${answer.status}`];
    } else {
      const dates = ["Date", "Last-Modified"].map((name) => Date.parse(answer.headers.get(name)));
      const content = object(await answer.json());
      if (!isNumber(content.written)) throw new SyntaxError();
      data = content;
      age = (dates[0] - dates[1]) / 1000;
      came = now();
      trouble = null;
      show();
    }
  } catch (error) {
    const unreadable = error instanceof SyntaxError;
    trouble = ["alarm", unreadable ? "what the box answers cannot be read" : "the box does not answer"];
  }
  state();
  setTimeout(poll, POLL);
}

poll();
setInterval(state, 1000);

// One conversation: what was said (kept as the host has it), what is being said, and sending, once.

import { csrf, notice, stream } from "./page.js";

const chat = document.getElementById("chat");
const entries = document.getElementById("entries");
const now = document.getElementById("now");
const draft = document.getElementById("draft");
const doing = document.getElementById("doing");
const elapsed = document.getElementById("elapsed");
const empty = document.getElementById("no-entries");
const composer = document.getElementById("composer");
const text = document.getElementById("text");
const problem = document.getElementById("problem");
const attached = document.getElementById("attached");
const said = (name) => chat.dataset[`text${name}`];
let session = chat.dataset.session;

// Entries are the host's: each has an id, and comes again when it has changed. What is no longer told is gone.
const marks = new Map();

function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;  // of the host's own templates, which escape every text
  return template.content.firstElementChild;
}

function isAtEnd() {
  return entries.scrollHeight - entries.scrollTop - entries.clientHeight < 120;
}

function toEnd() {
  entries.scrollTop = entries.scrollHeight;
}

function show({ items }) {
  const follow = isAtEnd();
  const wanted = new Set(items.map((item) => item.id));
  const shown = new Map([...entries.querySelectorAll(".entry[data-id]")].map((element) => [element.dataset.id, element]));
  let before = null;
  for (const item of items) {
    let element = shown.get(item.id);
    if (item.html && (!element || marks.get(item.id) !== item.mark)) {
      const fresh = fragment(item.html);
      decorate(fresh);
      if (element) element.replaceWith(fresh);
      else if (before) before.after(fresh);
      else { const first = entries.querySelector(".entry[data-id]"); first ? first.before(fresh) : entries.append(fresh); }
      element = fresh;
      marks.set(item.id, item.mark);
      shown.set(item.id, fresh);
    }
    if (element) before = element;
  }
  // Taken back: what stands between entries that are told, and is not told itself.
  let isWithin = false;
  for (const [id, element] of shown) {
    if (wanted.has(id)) isWithin = true;
    else if (isWithin || items.length === 0) element.remove();
  }
  for (const element of entries.querySelectorAll(".entry.waiting")) {
    if (wanted.has(element.dataset.message)) element.remove();
  }
  for (const element of entries.querySelectorAll(".entry.waiting")) entries.append(element);
  empty.hidden = entries.querySelector(".entry") !== null;
  if (follow) toEnd();
  if (session && !document.hidden) post(`/chat/${session}/read`).catch(() => {});
  meter();
}

function decorate(root) {
  for (const block of root.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = said("Copy");
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      notice(said("Copied"));
    });
    block.append(button);
  }
}

let began = 0;
function working(state) {
  const follow = isAtEnd();
  now.hidden = false;
  began = Date.now() - state.elapsed_seconds * 1000;
  doing.textContent = state.tool ? `${said("Tool")} ${state.tool}` : state.phase === "starting" ? said("Starting") : said("Working");
  draft.hidden = !state.draft;
  if (state.draft) { draft.innerHTML = state.draft; now.scrollTop = now.scrollHeight; } else draft.replaceChildren();
  tick();
  if (follow) toEnd();
}

function idle() {
  now.hidden = true;
  draft.replaceChildren();
}

function tick() {
  if (!now.hidden) elapsed.textContent = `${Math.max(0, Math.round((Date.now() - began) / 1000))} s`;
}
setInterval(tick, 1000);

let meterDue = false;
function meter() {
  if (!session || meterDue) return;
  meterDue = true;
  setTimeout(async () => {
    meterDue = false;
    try {
      const [figures, list] = await Promise.all([fetch(`/chat/${session}?part=meter`), fetch("/chat?part=list")]);
      if (figures.ok) document.getElementById("meter").replaceWith(fragment(await figures.text()));
      if (list.ok && list.headers.get("Content-Type")?.startsWith("text/html") && !list.redirected) {
        const fresh = fragment(await list.text());
        fresh.querySelector(`a[href="/chat/${session}"]`)?.setAttribute("aria-current", "page");
        const old = document.getElementById("conversations");
        if (!old.contains(document.activeElement)) old.replaceWith(fresh);
      }
    } catch { /* the host is away; the stream says so */ }
  }, 700);
}

let isListening = false;
function listen() {
  if (!session || isListening) return;
  isListening = true;
  stream(`/chat/${session}/stream`, {
    entries: (data) => { away(false); show(data); },
    working: (data) => { away(false); working(data); },
    idle: () => { away(false); idle(); },
    gone: () => location.assign("/chat"),
    closed: () => away(true),
  });
}

let awayTimer = null;
function away(isAway) {
  clearTimeout(awayTimer);
  if (!isAway) { if (problem?.dataset.away) { problem.hidden = true; delete problem.dataset.away; flush(); } return; }
  awayTimer = setTimeout(() => {
    if (!problem) return;
    problem.textContent = said("Away");
    problem.dataset.away = "1";
    problem.hidden = false;
  }, 1500);
}

async function post(url, data) {
  const answer = await fetch(url, { method: "POST", headers: { "X-CSRF-Token": csrf(), Accept: "application/json" }, body: data });
  if (answer.status === 401) { location.assign("/sign-in"); throw new Error("signed out"); }
  const told = await answer.json().catch(() => null);
  if (!answer.ok) {
    const error = new Error([told?.what ?? answer.statusText, told?.hint].filter(Boolean).join(": "));
    error.isRefusal = answer.status < 500;
    throw error;
  }
  return told;
}

// What is being sent stands in this browser until the host has it: with its id, by which it is taken once. So a page
// that is loaded again, or a host that was away, loses nothing and doubles nothing.
const place = `sending/${chat.dataset.agent}/${chat.dataset.thread}`;
const kept = () => JSON.parse(localStorage.getItem(place) ?? "[]");
const keep = (list) => (list.length ? localStorage.setItem(place, JSON.stringify(list)) : localStorage.removeItem(place));
const files = new Map();  // of messages that are being sent: they live as long as this page
const underWay = new Set();

function enqueue(message, added) {
  keep([...kept(), message]);
  if (added.length) files.set(message.id, added);
  waitingEntry(message, added);
  flush();
}

function waitingEntry(message, added) {
  const element = document.createElement("article");
  element.className = "entry mine waiting";
  element.dataset.sending = message.id;
  const header = document.createElement("header");
  const name = document.createElement("strong");
  name.textContent = said("You");
  const state = document.createElement("span");
  state.className = "state";
  state.textContent = ` ${said("Sending")}`;
  header.append(name, state);
  const words = document.createElement("div");
  words.className = "text plain";
  words.textContent = [message.text, ...added.map((file) => file.name)].filter(Boolean).join("\n");
  element.append(header, words);
  entries.append(element);
  empty.hidden = true;
  toEnd();
}

async function flush() {
  for (const message of kept()) {
    if (underWay.has(message.id)) continue;
    underWay.add(message.id);
    const element = entries.querySelector(`[data-sending="${message.id}"]`);
    try {
      const data = new FormData();
      for (const [name, value] of Object.entries({ agent: chat.dataset.agent, thread: chat.dataset.thread, text: message.text, message_id: message.id })) data.append(name, value);
      for (const file of files.get(message.id) ?? []) data.append("file", file, file.name);
      const done = await post("/chat/send", data);
      keep(kept().filter((each) => each.id !== message.id));
      files.delete(message.id);
      if (element) {
        element.dataset.message = done.message_id;
        element.querySelector(".state").textContent = "";
        if (entries.querySelector(`[data-id="${CSS.escape(done.message_id)}"]`)) element.remove();
      }
      if (done.session_id !== session) arrived(done);
    } catch (error) {
      if (error.isRefusal) {  // it will never be taken: it goes back to where it was written
        keep(kept().filter((each) => each.id !== message.id));
        element?.remove();
        problem.textContent = `${said("Refused")} ${error.message}`;
        problem.hidden = false;
        if (!text.value) { text.value = message.text; grow(); }
      } else {
        if (element) element.querySelector(".state").textContent = ` ${said("Waits")}`;
        setTimeout(flush, 2000);
      }
    } finally {
      underWay.delete(message.id);
    }
  }
}

function arrived(done) {
  if (session) { location.assign(done.url); return; }  // the conversation goes on in another session
  session = done.session_id;
  chat.dataset.session = session;
  history.replaceState(null, "", done.url);
  listen();
}

const added = [];
function attach(list) {
  for (const file of list) {
    if (added.length >= Number(chat.dataset.maxFiles)) { trouble(`${said("TooMany")} ${chat.dataset.maxFiles}`); break; }
    if (file.size > Number(chat.dataset.maxBytes)) { trouble(`${said("TooLarge")} ${file.name}`); continue; }
    added.push(file);
  }
  showAttached();
}

function trouble(sentence) {
  problem.textContent = sentence;
  problem.hidden = false;
}

function showAttached() {
  attached.replaceChildren(...added.map((file, number) => {
    const item = document.createElement("li");
    if (/^image\/(png|jpeg|gif|webp)$/.test(file.type)) {
      const picture = document.createElement("img");
      picture.src = URL.createObjectURL(file);
      picture.alt = "";
      picture.onload = () => URL.revokeObjectURL(picture.src);
      item.append(picture);
    }
    const name = document.createElement("span");
    name.textContent = file.name;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "✕";
    remove.setAttribute("aria-label", `${said("Remove")}: ${file.name}`);
    remove.addEventListener("click", () => { added.splice(number, 1); showAttached(); text.focus(); });
    item.append(name, remove);
    return item;
  }));
}

function grow() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

if (composer) {
  const unsent = `unsent/${chat.dataset.agent}/${session || "new"}`;
  text.value = localStorage.getItem(unsent) ?? "";
  grow();
  const send = () => {
    const words = text.value;
    if (!words.trim() && !added.length) return;
    problem.hidden = true;
    const given = added.splice(0);
    text.value = "";
    localStorage.removeItem(unsent);
    showAttached();
    grow();
    enqueue({ id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, text: words }, given);
  };
  composer.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  text.addEventListener("input", () => {
    grow();
    text.value ? localStorage.setItem(unsent, text.value) : localStorage.removeItem(unsent);
  });
  text.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) { event.preventDefault(); attach(event.clipboardData.files); }
  });
  document.getElementById("pick").addEventListener("change", (event) => { attach(event.target.files); event.target.value = ""; });
  for (const name of ["dragenter", "dragover"]) chat.addEventListener(name, (event) => { event.preventDefault(); composer.classList.add("over-files"); });
  for (const name of ["dragleave", "drop"]) chat.addEventListener(name, () => composer.classList.remove("over-files"));
  chat.addEventListener("drop", (event) => { event.preventDefault(); attach(event.dataTransfer.files); });
}

async function act(name) {
  if (!session) return;
  if (name === "delete" && !confirm(said("Delete"))) return;
  try {
    const done = await post(`/chat/${session}/do/${name}`);
    if (done.text && text && !text.value) { text.value = done.text; grow(); text.focus(); }
    const isElsewhere = done.url !== location.pathname;
    if (isElsewhere) location.assign(done.url);
    else if (name === "resume" || name === "archive") location.reload();
  } catch (error) {
    notice(error.message);
  }
}

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => { button.closest("details")?.removeAttribute("open"); act(button.dataset.do); });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !now.hidden && !document.querySelector("dialog[open], details.menu[open]")) act("stop");
  else if (event.key === "Escape") document.querySelector("details.menu[open]")?.removeAttribute("open");
});

for (const element of entries.querySelectorAll(".entry")) decorate(element);
if (composer) for (const message of kept()) waitingEntry(message, []);
toEnd();
listen();
if (composer) flush();

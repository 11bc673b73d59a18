// What every page does: sign in by the link's token, times of the reader's zone, live parts, the palette, dark or light.

const body = document.body;

export function csrf() {
  return body.dataset.csrf;
}

export function notice(text) {
  const place = document.getElementById("notice");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => (place.hidden = true), 5000);
}

// Times stand in UTC in the page; what is of today needs no date.
const clock = new Intl.DateTimeFormat(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(document.documentElement.lang, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const whole = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "full", timeStyle: "medium" });

export function times(root) {
  for (const element of root.querySelectorAll("time:not([title])")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const isToday = moment.toDateString() === new Date().toDateString();
    element.textContent = (isToday ? clock : day).format(moment);
    element.title = whole.format(moment);
  }
}

times(document);

// On a narrow screen the pages scroll sideways: the one that is shown is among those that are seen.
document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) if (node.nodeType === 1 && node.parentNode) times(node.parentNode);
}).observe(body, { childList: true, subtree: true });

// The token of a link stands behind its "#": it goes to the host in the body of one request, and out of the address.
const signIn = document.getElementById("sign-in-form");
if (signIn && location.hash.length > 1) {
  signIn.elements.token.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  signIn.hidden = false;
  document.getElementById("how-to-sign-in").hidden = true;
  signIn.requestSubmit();
}

// A stream that a hidden window does not hold: browsers allow few connections to one host, and windows may be many.
export function stream(url, handlers) {
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(url);
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle(event.data === undefined ? null : JSON.parse(event.data)));
    }
    if (handlers.closed) source.onerror = () => {
      handlers.closed();
      if (source && source.readyState === EventSource.CLOSED) { close(); setTimeout(open, 2000); }  // refused: try again
    };
  };
  const close = () => { source?.close(); source = null; };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}

if (body.dataset.live) {
  // A part that looks at one session is shown anew when something is told of that session, and by no other change: to
  // look at a session marks it as read, which is a change as well.
  // Nor is a part in which a person is writing: what is typed there would be gone.
  const due = new Set();
  const fields = ":is(#now-part, #view) :is(input:not([type=hidden]), textarea, select)";
  const isTyping = () => [...document.querySelectorAll(fields)].some((each) => each === document.activeElement || (each.value !== (each.defaultValue ?? each.value)));
  const refresh = (name) => {
    if (due.has(name)) return;
    due.add(name);
    setTimeout(() => {
      due.delete(name);
      if (!isTyping()) body.dispatchEvent(new CustomEvent(name));
    }, 300);
  };
  const ofSession = (event) => {
    refresh("live");
    if (event.session_id === document.getElementById("view")?.dataset.session) refresh("live-session");
  };
  // A part that is shown anew may have had the focus: it goes to what stands in the same place.
  let focused = null;
  document.addEventListener("htmx:before:swap", (event) => {
    if (isTyping() && event.target?.closest?.("#now-part, #view")) event.preventDefault();
    const element = document.activeElement;
    focused = element && element !== body && element.closest("[hx-get]") ? element.getAttribute("href") : null;
  });
  document.addEventListener("htmx:after:swap", () => {
    if (focused && document.activeElement === body) document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  });
  stream(body.dataset.live, { change: () => refresh("live"), event: ofSession });
}

document.addEventListener("htmx:config:request", (event) => {
  const headers = event.detail?.ctx?.request?.headers;
  if (headers) headers["X-CSRF-Token"] = csrf();
});

document.getElementById("switch-theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// The palette: everything that can be gone to, filtered by what is typed.
const palette = document.getElementById("palette");
if (palette) {
  const query = document.getElementById("palette-query");
  const list = document.getElementById("palette-list");
  let chosen = 0;
  const options = () => [...list.querySelectorAll("a:not([hidden])")];
  const choose = (number) => {
    const shown = options();
    chosen = Math.max(0, Math.min(number, shown.length - 1));
    shown.forEach((option, index) => option.setAttribute("aria-selected", index === chosen));
    const option = shown[chosen];
    if (option) { query.setAttribute("aria-activedescendant", option.id); option.scrollIntoView({ block: "nearest" }); }
    else query.removeAttribute("aria-activedescendant");
  };
  const filter = () => {
    const words = query.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    for (const option of list.querySelectorAll("a")) {
      const text = option.textContent.toLocaleLowerCase();
      option.hidden = !words.every((word) => text.includes(word));
    }
    choose(0);
  };
  const show = async () => {
    if (palette.open) return;
    query.value = "";
    palette.showModal();
    query.focus();
    const answer = await fetch(palette.dataset.source);
    if (!answer.ok) return;
    list.innerHTML = await answer.text();  // of the host's own templates, which escape every text
    list.querySelectorAll("a").forEach((option, index) => (option.id = `palette-${index}`));
    filter();
  };
  document.getElementById("open-palette").addEventListener("click", show);
  document.addEventListener("keydown", (event) => {
    if ((event.metaKey || event.ctrlKey) && !event.altKey && event.key.toLowerCase() === "k") { event.preventDefault(); show(); }
  });
  query.addEventListener("input", filter);
  query.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") choose(chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen - 1);
    else if (event.key === "Enter") options()[chosen]?.click();
    else return;
    event.preventDefault();
  });
  palette.addEventListener("click", (event) => { if (event.target === palette) palette.close(); });
}

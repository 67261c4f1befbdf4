// The page's controls. Every change asks at once; an answer that is no longer asked for is dropped,
// and nothing is asked about a node before it is chosen or named exactly.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [answer, search, options, status] = ["answer", "search", "options", "status"].map(byId);
const MODES = ["node", "input", "file", "list"];
let state = data.question;
let asking = new AbortController();
let searches = 0;
let typing = 0;
let uploads = 0;

async function request(path, body) {
  const init = body
    ? { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }
    : {};
  const response = await fetch(path, { ...init, signal: body && asking.signal });
  if (response.ok) return response;
  const error = await response.json().catch(() => ({}));
  throw new Error(error.error || `the server answers with status ${response.status}`);
}

function show(className, text) {
  const p = document.createElement("p");
  p.className = className;
  p.textContent = text;
  if (className === "error") p.role = "alert";
  answer.replaceChildren(p);
}

function typeInfo() {
  return data.types.find((t) => t.type === state.type) || data.types[0];
}

// What is missing for a question; empty if nothing is.
function missing() {
  if (state.mode === "node" && !state.id) return "Choose a node from the list.";
  if (state.mode === "input" && !typeInfo().modality) return typeInfo().hint;
  if (state.mode === "input" && !state.text) return "Enter what to ask about.";
  if (state.mode === "file" && !state.upload) return "Choose a file.";
  if (state.mode === "list" && !state.ids) return "Enter ids or names, one per line.";
  return "";
}

function address() {
  const values = {
    mode: state.mode === "node" ? "" : state.mode,
    type: state.type, relation: state.relation, target: state.target,
    id: state.mode === "node" ? state.id : "",
    text: state.mode === "input" ? state.text : "",
    ids: state.mode === "list" ? state.ids : "",
    k: state.k === data.defaults.k ? "" : state.k,
    known: state.known === data.defaults.known ? "" : state.known,
  };
  const used = Object.entries(values).filter(([, value]) => value);
  const query = new URLSearchParams(used).toString();
  // A longer address would not survive being sent.
  return `${document.baseURI}?${query.length < 16000 ? query : new URLSearchParams(used.slice(0, 4))}`;
}

function question() {
  return {
    ...state,
    id: state.mode === "node" ? state.id : "",
    text: state.mode === "input" ? state.text : "",
    ids: state.mode === "list" ? state.ids : "",
    upload: state.mode === "file" ? state.upload : null,
  };
}

async function ask(remember = true) {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const lack = missing();
  if (lack) {
    answer.removeAttribute("aria-busy");
    show("note", lack);
    return;
  }
  if (remember) {
    const method = address() === location.href && !state.upload ? "replaceState" : "pushState";
    history[method](state, "", address());
  }
  answer.setAttribute("aria-busy", "true");
  show("busy", "Asking…");
  try {
    const html = await (await request("answer", question())).text();
    if (signal.aborted) return;
    answer.innerHTML = html;
    byId("announce").textContent = `Answered: ${nameWindow()}`;
  } catch (error) {
    if (signal.aborted) return;
    show("error", error.message);
  }
  answer.removeAttribute("aria-busy");
}

// Gives the window the title of the answer, and returns it.
function nameWindow() {
  const title = answer.querySelector(".answer-title")?.textContent;
  if (title) document.title = `${title} · bridge_jax`;
  return title;
}

function showControls() {
  for (const mode of MODES) {
    const chosen = mode === state.mode;
    const tab = byId(`tab-${mode}`);
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    byId(`panel-${mode}`).hidden = !chosen;
  }
  byId("type-field").hidden = state.mode === "node";
  byId("submit").hidden = !["input", "list"].includes(state.mode);
  byId("type").value = state.type;
  const info = typeInfo();
  byId("input-label").textContent = info.label;
  byId("input-hint").textContent = info.hint;
  byId("text").disabled = !info.modality;
  byId("submit").disabled = state.mode === "input" && !info.modality;
  byId("relation").replaceChildren(...info.relations.map(([relation, target], position) => {
    const option = new Option(`${relation} → ${target}`, position);
    option.selected = relation === state.relation && target === state.target;
    return option;
  }));
  byId("k").value = state.k;
  byId("known").value = state.known;
  byId("text").value = state.text;
  byId("ids").value = state.ids;
  if (state.id) {
    search.value = state.name;
    showChosen();
  }
}

function showChosen() {
  const chip = document.createElement("span");
  chip.className = "chip";
  chip.textContent = state.type;
  const id = document.createElement("span");
  id.className = "id";
  id.textContent = state.id;
  status.replaceChildren(chip, " ", id);
}

function setType(type) {
  state = { ...state, type };
  const { relations } = typeInfo();
  const kept = relations.find(([r, t]) => r === state.relation && t === state.target)
    || relations.find(([r]) => r === state.relation) || relations[0];
  [state.relation, state.target] = kept;
}

function choose(match) {
  clearTimeout(typing);
  searches += 1;
  closeOptions();
  setType(match.type);
  state = { ...state, mode: "node", id: match.id, name: match.name };
  showControls();
  ask();
}

function closeOptions() {
  options.hidden = true;
  search.setAttribute("aria-expanded", "false");
  search.removeAttribute("aria-activedescendant");
}

// Shows the nodes that fit; chooses one only if `mayChoose` and the text names exactly one.
async function suggest(mayChoose) {
  const number = ++searches;
  const text = search.value.trim();
  if (!text) {
    closeOptions();
    status.textContent = "";
    return;
  }
  let found;
  try {
    found = await (await request(`api/search?${new URLSearchParams({ text })}`)).json();
  } catch (error) {
    if (number === searches) status.textContent = error.message;
    return;
  }
  if (number !== searches) return;
  if (mayChoose && found.exact) {
    choose(found.exact);
    return;
  }
  options.replaceChildren(...found.matches.map(optionOf));
  options.hidden = !found.matches.length;
  search.setAttribute("aria-expanded", String(!options.hidden));
  search.removeAttribute("aria-activedescendant");
  const count = found.matches.length;
  status.textContent = count
    ? `${count === data.defaults.matches ? "The best " : ""}${count} that fit; choose one.`
    : `No node fits “${text}”.`;
}

function optionOf(match, position) {
  const li = document.createElement("li");
  li.id = `option-${position}`;
  li.role = "option";
  li.ariaSelected = "false";
  li.match = match;
  const add = (tag, className, text) => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    li.append(element, " ");
  };
  add("b", "", match.name);
  add("span", "chip", match.type);
  add("span", "id", match.id);
  if (![match.name, match.id].includes(match.text)) add("span", "via", `“${match.text}”`);
  return li;
}

function moveTo(step) {
  const items = [...options.children];
  if (!items.length || options.hidden) return;
  const old = items.findIndex((li) => li.ariaSelected === "true");
  const next = (old < 0 ? (step > 0 ? 0 : items.length - 1) : old + step + items.length) % items.length;
  items.forEach((li, i) => { li.ariaSelected = String(i === next); });
  search.setAttribute("aria-activedescendant", items[next].id);
  items[next].scrollIntoView({ block: "nearest" });
}

search.addEventListener("input", () => {
  if (state.id) {
    state = { ...state, id: "", name: "" };
    ask();
  }
  show("note", "Choose a node from the list, or type a name or an id in full and press Enter.");
  clearTimeout(typing);
  searches += 1;  // what is under way was about another text
  typing = setTimeout(() => suggest(false), 80);
});
search.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    moveTo(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Escape") {
    closeOptions();
  } else if (event.key === "Enter") {
    event.preventDefault();
    clearTimeout(typing);
    const chosen = options.hidden ? null : options.querySelector('[aria-selected="true"]');
    if (chosen) choose(chosen.match);
    else if (!state.id) suggest(true);
  }
});
search.addEventListener("focus", () => search.select());
search.addEventListener("blur", closeOptions);
options.addEventListener("mousedown", (event) => {
  event.preventDefault();  // the field keeps the focus
  const li = event.target.closest("li");
  if (li) choose(li.match);
});

for (const mode of MODES) {
  const tab = byId(`tab-${mode}`);
  tab.addEventListener("click", () => {
    state = { ...state, mode };
    showControls();
    ask();
  });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = byId(`tab-${MODES[(MODES.indexOf(mode) + step + MODES.length) % MODES.length]}`);
    next.focus();
    next.click();
  });
}
byId("type").addEventListener("change", (event) => {
  setType(event.target.value);
  state = { ...state, id: "", name: "", upload: null };
  uploads += 1;
  byId("file").value = "";
  search.value = "";
  status.textContent = "";
  showControls();
  ask();
});
byId("relation").addEventListener("change", (event) => {
  const [relation, target] = typeInfo().relations[Number(event.target.value)];
  state = { ...state, relation, target };
  ask();
});
for (const name of ["k", "known"]) {
  byId(name).addEventListener("change", (event) => {
    state = { ...state, [name]: event.target.value };
    ask();
  });
}
for (const name of ["text", "ids"]) {
  byId(name).addEventListener("input", (event) => {
    asking.abort();
    answer.removeAttribute("aria-busy");
    show("note", "Press Answer.");
    state = { ...state, [name]: event.target.value.trim() };
  });
  byId(name).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
  });
}
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
byId("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  const number = ++uploads;
  state = { ...state, upload: null };
  if (!file) {
    ask();
    return;
  }
  asking.abort();
  show("busy", "Uploading…");
  const form = new FormData();
  form.append("files", file);
  const response = await fetch("gradio_api/upload", { method: "POST", body: form }).catch(() => null);
  const reply = response && await response.json().catch(() => null);
  if (number !== uploads || state.mode !== "file") return;
  if (!response || !response.ok) {
    show("error", (reply && reply.error) || "the file cannot be sent");
    return;
  }
  state = { ...state, upload: { path: reply[0] } };
  ask();
});

answer.addEventListener("click", async (event) => {
  const button = event.target.closest("button.why");
  if (!button) return;
  const row = button.closest("tr");
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  if (open) {
    row.nextElementSibling.remove();
    return;
  }
  const reasons = document.createElement("tr");
  reasons.className = "reasons";
  const wide = reasons.insertCell();
  wide.colSpan = row.cells.length;
  const cell = wide.appendChild(document.createElement("div"));
  row.after(reasons);
  try {
    const body = { ...question(), answer: button.dataset.answer };
    cell.innerHTML = await (await request("why", body)).text();
  } catch (error) {
    cell.textContent = error.message;
  }
});

addEventListener("popstate", (event) => {
  if (!event.state) {
    location.reload();
    return;
  }
  state = event.state;
  closeOptions();
  showControls();
  ask(false);
});

history.replaceState(state, "", location.href);
showControls();
nameWindow();
if (data.search) {
  search.value = data.search;
  suggest(false);
}

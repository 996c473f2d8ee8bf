"use strict";
// Functions that the scripts of several pages share. Untrusted text only becomes text nodes.
const ROWS_ON_A_PAGE = 50;
const find = (id) => document.getElementById(id);

const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

const fill = (select, options) => {
  for (const [value, text] of options) {
    const option = make("option", text);
    option.value = value;
    select.append(option);
  }
};

// --- packed data ---

const unpacked = async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

// Returns the columns of the page's table, and a function that returns the texts of a row, or null if the page lacks them.
const unpackedTable = async () => {
  const columns = await unpacked(find("columns").textContent);
  const blocks = [...document.querySelectorAll("script.texts")].map((script) => script.textContent);
  const known = new Map();
  const textsOf = async (row) => {
    const number = columns.block[row];
    if (number < 0) return null;
    if (!known.has(number)) known.set(number, await unpacked(blocks[number]));
    return known.get(number)[columns.place[row]];
  };
  return [columns, textsOf];
};

// --- a table in pages, whose rows open ---

const drawHead = (names, isNumber) => {
  names.forEach((name, place) => {
    const cell = make("th", name, isNumber(place) ? "number" : "");
    cell.scope = "col";
    find("head").append(cell);
  });
};

// Returns a function that shows rows, beginning with their first page. Buttons stay enabled at the ends, to keep the focus.
const paged = ({ all, drawRow }) => {
  let rows = [], page = 0;
  const last = () => Math.max(0, Math.ceil(rows.length / ROWS_ON_A_PAGE) - 1);
  const draw = () => {
    find("count").textContent = `${rows.length.toLocaleString("en")} of ${all.toLocaleString("en")} rows`;
    find("where-in-pages").textContent = `page ${page + 1} of ${last() + 1}`;
    find("back").setAttribute("aria-disabled", String(page === 0));
    find("forth").setAttribute("aria-disabled", String(page === last()));
    find("page").replaceChildren(...rows.slice(page * ROWS_ON_A_PAGE, (page + 1) * ROWS_ON_A_PAGE).map(drawRow));
  };
  const turn = (to) => {
    page = Math.min(last(), Math.max(0, to));
    draw();
  };
  find("back").addEventListener("click", () => turn(page - 1));
  find("forth").addEventListener("click", () => turn(page + 1));
  return (found) => {
    rows = found;
    turn(0);
  };
};

const opener = (words, line, width, content) => {
  const button = make("button", words || "(no name)");
  button.type = "button";
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-expanded") === "true") {
      button.setAttribute("aria-expanded", "false");
      line.nextElementSibling.remove();
      return;
    }
    button.setAttribute("aria-expanded", "true");
    const detail = make("tr"), cell = make("td");
    cell.colSpan = width;
    detail.append(cell);
    line.after(detail);
    cell.append(...(await content()));
  });
  return button;
};

// Shows the table, and calls `choose` now and after each change of its filters. The key / leads to the words.
const filteredBy = (choose) => {
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("filters").addEventListener("input", choose);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      find("words").focus();
    }
  });
  find("items").hidden = false;
  return choose();
};

// --- the result of a task ---

const labelled = (label, text) => [make("h4", label), make("pre", text)];

const drawTask = (task, draw = labelled) => {
  const said = [
    task.type,
    task.model,
    task.finish_reason,
    task.latency_s !== undefined && `${task.latency_s.toFixed(3)} s`,
    task.ttft_s !== undefined && `first token ${task.ttft_s.toFixed(3)} s`,
    task.attempts > 1 && `${task.attempts} attempts`,
  ];
  const name = task.sample ? `${task.alias}, sample ${task.sample}` : task.alias;
  const parts = [make("h3", name), make("p", said.filter(Boolean).join(" · "), "soft")];
  if (task.error) {
    parts.push(make("p", [task.error.type, task.error.status, task.error.message].filter(Boolean).join(" · "), "broken"));
  }
  if (task.skipped) parts.push(make("p", "skipped: its run_condition does not hold", "soft"));
  if (task.value !== undefined) parts.push(make("p", `value ${task.value}`));
  const fields = [
    ["reasoning", "reasoning"],
    ["output", task.type === "metric" ? "answer read" : "answer"],
    ["refusal", "refusal"],
    ["tool_calls", "tool calls"],
    ["response_body", "what the server sent"],
    ["request", "request"],
  ];
  for (const [key, label] of fields) if (task[key] !== undefined) parts.push(...draw(label, task[key], task, key));
  return parts;
};

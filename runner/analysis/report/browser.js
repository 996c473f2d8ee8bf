"use strict";
// The table of items: filters, sorts and pages through rows that are packed into the page. It makes text nodes only.
(async () => {
  const find = (id) => document.getElementById(id);
  const ROWS_ON_A_PAGE = 50;
  const ERROR = 1, TRUNCATED = 2, EMPTY = 4, NO_ANSWER = 8, CACHED = 16, SKIPPED = 32;

  const unpacked = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };
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

  const columns = await unpacked(find("columns").textContent);
  const blocks = [...document.querySelectorAll("script.texts")].map((script) => script.textContent);
  const metrics = Object.keys(columns.values);
  const hasSamples = columns.sample.some((sample) => sample > 0);
  const unpackedBlocks = new Map();
  const blockOf = async (number) => {
    if (!unpackedBlocks.has(number)) unpackedBlocks.set(number, await unpacked(blocks[number]));
    return unpackedBlocks.get(number);
  };
  const textsOf = async (row) => (columns.block[row] < 0 ? null : (await blockOf(columns.block[row]))[columns.place[row]]);

  // --- filters and order ---

  const isWrong = (row, metric) => columns.wrong[metric] !== null && columns.values[metric][row] === columns.wrong[metric];
  const isRight = (row, metric) =>
    columns.wrong[metric] !== null && columns.values[metric][row] !== null && columns.values[metric][row] !== columns.wrong[metric];
  const has = (flag) => (row) => (columns.flags[row] & flag) !== 0;
  const kinds = {
    all: ["all rows", () => true],
    wrong: ["wrong", isWrong],
    right: ["right", isRight],
    error: ["errors", has(ERROR)],
    truncated: ["truncated", has(TRUNCATED)],
    empty: ["empty answers", has(EMPTY)],
    unread: ["no answer found", has(NO_ANSWER)],
    cached: ["kept from before", has(CACHED)],
    skipped: ["with skipped tasks", has(SKIPPED)],
    texts: ["with texts", (row) => columns.block[row] >= 0],
  };
  const orders = {
    dataset: ["dataset", null, 1],
    lowest: ["value, lowest first", (row) => columns.values[find("metric").value][row], 1],
    highest: ["value, highest first", (row) => columns.values[find("metric").value][row], -1],
    slowest: ["latency, slowest first", (row) => columns.ms[row], -1],
    longest: ["tokens, most first", (row) => columns.tokens[row], -1],
  };
  const exists = (kind) => kind === "all" || columns.id.some((_, row) => metrics.some((metric) => kinds[kind][1](row, metric)) || (!metrics.length && kinds[kind][1](row)));
  fill(find("show"), Object.entries(kinds).filter(([kind]) => exists(kind)).map(([kind, [text]]) => [kind, text]));
  fill(find("metric"), metrics.map((metric) => [metric, metric]));
  fill(find("order"), Object.entries(orders).filter(([order]) => metrics.length || !/est$/.test(order) || order === "slowest" || order === "longest").map(([order, [text]]) => [order, text]));
  if (!metrics.length) find("metric").parentElement.hidden = true;
  const groupSelects = columns.groups.map(({ name, names }) => {
    const label = make("label", `${name} `), select = make("select");
    fill(select, [["", "all"], ...names.map((group, code) => [String(code), group]).sort((a, b) => (a[1] < b[1] ? -1 : 1))]);
    label.append(select);
    find("groups").append(label);
    return select;
  });

  const textHolds = async (row, words) => {
    const texts = await textsOf(row);
    return texts !== null && JSON.stringify(Object.values(texts)).toLowerCase().includes(words);
  };

  let chosen = [], page = 0, latest = 0;
  const choose = async () => {
    const turn = ++latest;
    const show = kinds[find("show").value][1], metric = find("metric").value;
    const words = find("words").value.trim().toLowerCase(), inTexts = find("where").value === "text";
    const codes = groupSelects.map((select) => (select.value === "" ? null : Number(select.value)));
    const found = [];
    for (let row = 0; row < columns.id.length; row++) {
      if (!show(row, metric) || codes.some((code, table) => code !== null && columns.groups[table].codes[row] !== code)) continue;
      if (words && !(inTexts ? await textHolds(row, JSON.stringify(words).slice(1, -1)) : columns.id[row].toLowerCase().includes(words))) continue;
      if (turn !== latest) return; // something else was chosen meanwhile
      found.push(row);
    }
    const [, value, sign] = orders[find("order").value];
    if (value) {
      const last = (row) => value(row) === null;
      found.sort((a, b) => last(a) - last(b) || sign * (value(a) - value(b)) || a - b);
    }
    [chosen, page] = [found, 0];
    draw();
  };

  // --- the page ---

  const head = ["item", ...(hasSamples ? ["sample"] : []), ...metrics, "ms", "tokens", "remarks"];
  head.forEach((name, place) => {
    const cell = make("th", name, place && name !== "remarks" ? "number" : "");
    cell.scope = "col";
    find("head").append(cell);
  });
  const marks = [[ERROR, "error"], [TRUNCATED, "truncated"], [EMPTY, "empty"], [NO_ANSWER, "no answer found"], [CACHED, "kept from before"], [SKIPPED, "skipped"]];
  const number = (value) => (value === null ? "–" : String(value));
  const draw = () => {
    const pages = Math.max(1, Math.ceil(chosen.length / ROWS_ON_A_PAGE));
    find("count").textContent = `${chosen.length.toLocaleString("en")} of ${columns.id.length.toLocaleString("en")} rows`;
    find("where-in-pages").textContent = `page ${page + 1} of ${pages}`;
    find("back").disabled = page === 0;
    find("forth").disabled = page + 1 >= pages;
    find("page").replaceChildren(...chosen.slice(page * ROWS_ON_A_PAGE, (page + 1) * ROWS_ON_A_PAGE).map(drawRow));
  };
  const drawRow = (row) => {
    const line = make("tr"), name = make("th");
    name.scope = "row";
    const button = make("button", columns.id[row] || "(no name)");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => toggle(row, line, button));
    name.append(button);
    line.append(name);
    if (hasSamples) line.append(make("td", String(columns.sample[row]), "number"));
    for (const metric of metrics) {
      const verdict = isWrong(row, metric) ? " broken" : isRight(row, metric) ? " holds" : "";
      line.append(make("td", number(columns.values[metric][row]), `number${verdict}`));
    }
    line.append(make("td", number(columns.ms[row]), "number"), make("td", number(columns.tokens[row]), "number"));
    line.append(make("td", marks.filter(([flag]) => columns.flags[row] & flag).map(([, text]) => text).join(", ")));
    return line;
  };
  const toggle = async (row, line, button) => {
    if (button.getAttribute("aria-expanded") === "true") {
      button.setAttribute("aria-expanded", "false");
      line.nextElementSibling.remove();
      return;
    }
    button.setAttribute("aria-expanded", "true");
    const detail = make("tr"), cell = make("td");
    cell.colSpan = head.length;
    detail.append(cell);
    line.after(detail);
    const texts = await textsOf(row);
    if (texts === null) cell.append(make("p", "The texts of this row are not in this page; they are in the run.", "soft"));
    else cell.append(...drawTexts(texts));
  };
  const labelled = (label, text) => [make("h4", label), make("pre", text)];
  const drawTexts = ({ item, tasks }) => {
    const parts = [make("h3", "Item"), ...item.flatMap(([name, text]) => labelled(name, text))];
    for (const task of tasks) {
      const said = [task.type, task.model, task.finish_reason, task.latency_s !== undefined && `${task.latency_s.toFixed(3)} s`, task.ttft_s !== undefined && `first token ${task.ttft_s.toFixed(3)} s`, task.attempts > 1 && `${task.attempts} attempts`];
      parts.push(make("h3", task.alias), make("p", said.filter(Boolean).join(" · "), "soft"));
      if (task.error) parts.push(make("p", [task.error.type, task.error.status, task.error.message].filter(Boolean).join(" · "), "broken"));
      if (task.skipped) parts.push(make("p", "skipped: its run_condition does not hold", "soft"));
      if (task.value !== undefined) parts.push(make("p", `value ${task.value}`));
      const names = [["reasoning", "reasoning"], ["output", task.type === "metric" ? "taken for the answer" : "answer"], ["refusal", "refusal"], ["tool_calls", "tool calls"], ["response_body", "what the server sent"], ["request", "request"]];
      for (const [key, label] of names) if (task[key] !== undefined) parts.push(...labelled(label, task[key]));
    }
    return parts;
  };

  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("filters").addEventListener("input", choose);
  find("back").addEventListener("click", () => { page--; draw(); });
  find("forth").addEventListener("click", () => { page++; draw(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      find("words").focus();
    }
  });
  find("items").hidden = false;
  await choose();
})();

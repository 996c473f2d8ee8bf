// The table of items: filters, sorts and pages through rows that are packed into the page. It makes text nodes only.
(async () => {
  const ERROR = 1, TRUNCATED = 2, EMPTY = 4, NO_ANSWER = 8, CACHED = 16, SKIPPED = 32;

  const [columns, textsOf] = await unpackedTable();
  const metrics = Object.keys(columns.values);
  const hasSamples = columns.sample.some((sample) => sample > 0);

  // --- filters and order ---

  const isWrong = (row, metric) => columns.wrong[metric] !== null && columns.values[metric][row] === columns.wrong[metric];
  const isRight = (row, metric) =>
    columns.wrong[metric] !== null && columns.values[metric][row] !== null && columns.values[metric][row] !== columns.wrong[metric];
  const has = (flag) => (row) => (columns.flags[row] & flag) !== 0;
  const ofMetrics = { wrong: ["wrong", isWrong], right: ["right", isRight] };
  const kinds = {
    all: ["all rows", () => true],
    ...(metrics.length ? ofMetrics : {}),
    error: ["errors", has(ERROR)],
    truncated: ["truncated", has(TRUNCATED)],
    empty: ["empty answers", has(EMPTY)],
    unread: ["no answer found", has(NO_ANSWER)],
    cached: ["reused answers", has(CACHED)],
    skipped: ["with skipped tasks", has(SKIPPED)],
    texts: ["with texts", (row) => columns.block[row] >= 0],
  };
  const valueOf = (row) => columns.values[find("metric").value][row];
  const byValue = { lowest: ["value, lowest first", valueOf, 1], highest: ["value, highest first", valueOf, -1] };
  const orders = {
    dataset: ["dataset", null, 1],
    ...(metrics.length ? byValue : {}),
    slowest: ["latency, slowest first", (row) => columns.ms[row], -1],
    longest: ["tokens, most first", (row) => columns.tokens[row], -1],
  };
  const hasAny = ([, holds]) => columns.id.some((_, row) => (metrics.length ? metrics : [""]).some((metric) => holds(row, metric)));
  fill(find("show"), Object.entries(kinds).filter(([kind, how]) => kind === "all" || hasAny(how)).map(([kind, [text]]) => [kind, text]));
  fill(find("metric"), metrics.map((metric) => [metric, metric]));
  fill(find("order"), Object.entries(orders).map(([order, [text]]) => [order, text]));
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

  let latest = 0;
  const choose = async () => {
    const turn = ++latest;
    const show = kinds[find("show").value][1], metric = find("metric").value;
    const words = find("words").value.trim().toLowerCase(), inTexts = find("where").value === "text";
    const codes = groupSelects.map((select) => (select.value === "" ? null : Number(select.value)));
    const found = [];
    for (let row = 0; row < columns.id.length; row++) {
      if (!show(row, metric) || codes.some((code, table) => code !== null && columns.groups[table].codes[row] !== code)) continue;
      if (words && !(inTexts ? await textHolds(row, JSON.stringify(words).slice(1, -1)) : columns.id[row].toLowerCase().includes(words))) continue;
      if (turn !== latest) return; // the filters changed meanwhile
      found.push(row);
    }
    const [, value, sign] = orders[find("order").value];
    if (value) {
      const last = (row) => value(row) === null;
      found.sort((a, b) => last(a) - last(b) || sign * (value(a) - value(b)) || a - b);
    }
    showRows(found);
  };

  // --- the page ---

  const head = ["item", ...(hasSamples ? ["sample"] : []), ...metrics, "ms", "tokens", "remarks"];
  drawHead(head, (place) => 0 < place && place < head.length - 1);
  const marks = [[ERROR, "error"], [TRUNCATED, "truncated"], [EMPTY, "empty"], [NO_ANSWER, "no answer found"], [CACHED, "reused answer"], [SKIPPED, "skipped"]];
  const number = (value) => (value === null ? "–" : String(value));
  const drawRow = (row) => {
    const line = make("tr"), name = make("th");
    name.scope = "row";
    const button = opener(columns.id[row], line, head.length, async () => {
      const texts = await textsOf(row);
      return texts === null ? [make("p", "The texts of this row are not in this page; they are in the run.", "soft")] : drawTexts(texts);
    });
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
  const showRows = paged({ all: columns.id.length, drawRow });
  const drawTexts = ({ item, tasks }) => [make("h3", "Item"), ...item.flatMap(([name, text]) => labelled(name, text)), ...tasks.flatMap((task) => drawTask(task))];

  await filteredBy(choose);
})();

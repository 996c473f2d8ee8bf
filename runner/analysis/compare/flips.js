// The table of flips: items whose value differs, with the answers of both runs side by side.
(async () => {
  const [columns, textsOf] = await unpackedTable();
  const count = columns.id.length;

  // --- words that differ ---

  const MOST_WORDS = 1500; // time and memory grow with the square
  const words = (text) => text.match(/\s+|[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu) ?? [];
  const sameWords = (a, b) => {
    const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
      }
    }
    const inA = new Set(), inB = new Set();
    for (let i = 0, j = 0; i < a.length && j < b.length; ) {
      if (a[i] === b[j]) inA.add(i++), inB.add(j++);
      else if (longest[i + 1][j] >= longest[i][j + 1]) i++;
      else j++;
    }
    return [inA, inB];
  };
  const marked = (all, same, name) => {
    const parts = make("pre");
    all.forEach((word, place) => parts.append(same.has(place) ? document.createTextNode(word) : make(name, word)));
    return parts;
  };
  const bothTexts = (a, b) => {
    const [ofA, ofB] = [words(a), words(b)];
    if (a === b || ofA.length > MOST_WORDS || ofB.length > MOST_WORDS) return [make("pre", a), make("pre", b)];
    const [inA, inB] = sameWords(ofA, ofB);
    return [marked(ofA, inA, "del"), marked(ofB, inB, "ins")];
  };

  // --- both answers ---

  const DIFFED = new Set(["output", "reasoning", "tool_calls", "refusal"]);
  const side = (tasks, others, name, place) => {
    const parts = make("div");
    parts.append(make("h3", name));
    for (const task of tasks) {
      const other = others.find((one) => one.alias === task.alias && one.sample === task.sample);
      const draw = (label, text, _, key) => {
        if (!DIFFED.has(key) || other?.[key] === undefined) return labelled(label, text);
        const texts = place === 0 ? bothTexts(text, other[key]) : bothTexts(other[key], text);
        return [make("h4", label), texts[place]];
      };
      const section = make("section");
      section.append(...drawTask(task, draw));
      parts.append(section);
    }
    return parts;
  };
  const drawTexts = async (row) => {
    const texts = await textsOf(row);
    if (texts === null) return [make("p", "The texts of this item are not in this page; they are in the runs.", "soft")];
    const { item, a, b } = texts;
    const sides = make("div", undefined, "sides");
    sides.append(side(a, b, "A", 0), side(b, a, "B", 1));
    return [make("h3", "Item"), ...item.flatMap(([name, text]) => labelled(name, text)), sides];
  };

  // --- filters and the page ---

  const several = columns.pairs.length > 1;
  fill(find("pair"), [["", "all"], ...columns.pairs.map((name, place) => [String(place), name])]);
  fill(find("metric"), [["", "all"], ...columns.metrics.map((name, place) => [String(place), name])]);
  find("pair").parentElement.hidden = !several;
  const head = [...(several ? ["runs"] : []), "item", "metric", "A", "B", "B - A"];
  drawHead(head, (place) => place >= head.length - 3);
  const drawRow = (row) => {
    const line = make("tr"), name = make("th"), change = columns.b[row] - columns.a[row];
    name.scope = "row";
    name.append(opener(columns.id[row], line, head.length, () => drawTexts(row)));
    if (several) line.append(make("td", columns.pairs[columns.pair[row]]));
    line.append(name, make("td", columns.metrics[columns.metric[row]]));
    line.append(make("td", String(columns.a[row]), "number"), make("td", String(columns.b[row]), "number"));
    line.append(make("td", `${change > 0 ? "+" : ""}${Number(change.toPrecision(4))}`, `number ${columns.won[row] ? "better" : "worse"}`));
    return line;
  };
  const showRows = paged({ all: count, drawRow });
  const choose = () => {
    const [pair, metric, show] = ["pair", "metric", "show"].map((id) => find(id).value);
    const wanted = find("words").value.trim().toLowerCase();
    const chosen = [];
    for (let row = 0; row < count; row++) {
      if (pair !== "" && columns.pair[row] !== Number(pair)) continue;
      if (metric !== "" && columns.metric[row] !== Number(metric)) continue;
      if (show !== "all" && columns.won[row] !== (show === "won")) continue;
      if (columns.id[row].toLowerCase().includes(wanted)) chosen.push(row);
    }
    showRows(chosen);
  };
  filteredBy(choose);
})();

/* Your own particles in the browser: the page. */
"use strict";

const MOST_CLASSES = 9;    // as many as there are keys and colours
const MANY = 500;          // particles from which on classifying waits for a pause in labelling

function startYourParticles(place) {
  const state = {files: [], particles: [], refused: [], remarks: [], skipped: [], labels: new Map(), names: [], way: 0,
    first: 0, show: "all", rate: 0.05, contrast: "looks", given: undefined, run: 0};
  let encoder;
  place.classList.add("few-shot");
  const status = element("p", {"aria-live": "polite", class: "status"});
  const bar = element("progress", {"aria-label": "Particles done", hidden: true}), below = element("div");
  const say = words => { status.textContent = words; draw(); };

  /* ---------------------------------------------------------------- reading */

  async function read() {
    const run = ++state.run, isCurrent = () => run === state.run, files = state.files;
    const kept = new Map([...state.labels].map(([i, way]) => [state.particles[i].name, way]));
    Object.assign(state, {particles: [], refused: [], remarks: [], labels: new Map(), first: 0, answer: undefined});
    if (!files.length) return say(state.skipped.length ? "No MRC file or npz among these." : "");
    say("Reading headers.");
    encoder ||= await openEncoder();
    const opened = await openFiles(files, state.given);
    if (!isCurrent()) return;
    Object.assign(state, opened);
    opened.particles.forEach(({name, label}, i) => {
      if (kept.has(name)) state.labels.set(i, kept.get(name));
      else if (label !== undefined && wayOf(label) >= 0) state.labels.set(i, wayOf(label));
    });
    if (!opened.particles.length) return say("None of these files can be read.");
    say("Looking at the contrast.");
    const seen = state.contrast === "looks" ? await lookAtContrast(encoder, opened.particles, isCurrent) : {mixed: ""};
    if (!isCurrent()) return;
    if (seen.mixed) return say(`${seen.mixed}: invert the files of one kind, or choose one contrast if all are of one.`);
    const dark = state.contrast === "looks" ? seen.dark !== false : state.contrast === "dark";
    const how = state.contrast !== "looks" ? "as you say" : seen.dark === undefined ? "assumed, for it cannot be told" : "as it looks";
    say("Embedding.");
    const started = performance.now();
    Object.assign(bar, {hidden: false, max: opened.particles.length, value: 0});
    await askOfEach(encoder, opened.particles, {dark}, isCurrent, (particle, answer) => {
      if (answer.refused) state.refused.push({name: particle.name, why: answer.refused});
      else Object.assign(particle, answer, {projected: projections(answer.embedding, encoder)});
      bar.value++;
    });
    if (!isCurrent()) return;
    bar.hidden = true;
    const ms = (performance.now() - started) / opened.particles.length;
    const labels = [...state.labels].map(([i, way]) => [opened.particles[i], way]);
    state.particles = opened.particles.filter(particle => particle.embedding);
    state.labels = new Map(labels.map(([particle, way]) => [state.particles.indexOf(particle), way]).filter(([i]) => i >= 0));
    say(`${state.particles.length} particles, ${opened.common}; protein is ${dark ? "dark" : "bright"}, ${how}. ` +
      `${ms.toFixed(0)} ms for each. Encoder ${encoder.digest}.`);
    changed();
  }

  function add(files) {
    const known = new Set(state.files.map(({path}) => path));
    for (const {file, path} of files.filter(({path}) => !path.split("/").at(-1).startsWith("."))) {
      const below = path.split("/").slice(path.includes("/") ? 1 : 0);
      if (known.has(path)) state.skipped.push(`${path} (a file of this name is there already)`);
      else if (NPZ_NAME.test(path) || MRC_NAME.test(path) && !below.some(part => NO_PARTICLE.test(part))) state.files.push({file, path});
      else state.skipped.push(path);
    }
    return read().catch(error => { bar.hidden = true; say(`This did not work: ${error.message}.`); });
  }

  async function example() {
    await scriptBeside("example.js");
    Object.assign(state, {files: [], skipped: []});
    await add(Object.entries(EXAMPLE).map(([path, content]) => ({path, file: new Blob([binary(content)])})));
  }

  /* ---------------------------------------------------------------- labels */

  function toggle(particle, way) {
    if (!state.names.length) named.focus();
    if (way >= state.names.length) return;
    state.way = way;
    if (state.labels.get(particle) === way) state.labels.delete(particle);
    else state.labels.set(particle, way);
    changed();
  }

  /* Number of a class, a new one where there is room; -1 where there is none. */
  function wayOf(name) {
    if (state.names.includes(name)) return state.names.indexOf(name);
    return state.names.length < MOST_CLASSES ? state.names.push(name) - 1 : -1;
  }

  function addClass(name, withFiles) {
    const way = name ? wayOf(name) : -1;
    if (way < 0) return;
    state.way = way;
    if (withFiles) state.particles.forEach((particle, i) => { if (particle.name.includes(name)) state.labels.set(i, way); });
    changed();
  }

  /* ---------------------------------------------------------------- what stands on the page */

  const chooser = (words, attributes) => element("label", {class: "action"}, words, element("input", {
    type: "file", class: "hidden", multiple: true, ...attributes,
    onchange: event => add([...event.target.files].map(file => ({file, path: file.webkitRelativePath || file.name}))),
  }));
  const options = (id, words, values, use) => element("label", {for: id}, `${words} `,
    element("select", {id, onchange: event => use(event.target.value)},
      ...values.map(([value, said, selected = false]) => element("option", {value, selected}, said))));
  const button = (words, action) => element("button", {type: "button", id: `do ${words}`, class: "action", onclick: action}, words);
  const named = element("input", {id: "class-name", autocomplete: "off", list: "name-parts"});
  const nameParts = element("datalist", {id: "name-parts"});
  const takeName = withFiles => addClass(named.value.trim(), withFiles);
  const labelling = element("form", {class: "controls", hidden: true,
    onsubmit: event => { event.preventDefault(); takeName(false); }},
    element("label", {for: "class-name"}, "Class "), named, nameParts, element("button", {class: "action"}, "Add"),
    button("Label all files with this in their name", () => takeName(true)));

  const drop = element("div", {class: "drop",
    ondragover: event => event.preventDefault(),
    ondrop: async event => { event.preventDefault(); add(await filesOf(event.dataTransfer)); }},
    element("p", {}, "Drop MRC files or folders here, one particle a file or stacks of volumes, or an npz; or"),
    chooser("Choose files", {}), chooser("Choose a folder", {webkitdirectory: true}),
    button("Try simulated particles", example));
  const settings = element("div", {class: "controls", hidden: true},
    element("label", {for: "given-nm"}, "Voxel size in nm, if not the header's ", element("input", {
      id: "given-nm", type: "number", min: "0.1", max: "9.99", step: "any",
      onchange: event => { state.given = event.target.valueAsNumber || undefined; add([]); }})),
    options("contrast", "Protein is", [["looks", "as it looks"], ["dark", "dark"], ["bright", "bright"]],
      value => { state.contrast = value; add([]); }),
    options("rate", "Accept at most", RATES.slice(1).map(rate => [rate, `${100 * rate} % of unknown particles`, rate === state.rate]),
      value => { state.rate = Number(value); changed(); }));
  place.replaceChildren(drop, settings, status, bar, labelling, below);

  const countLabelled = way => [...state.labels.values()].filter(other => other === way).length;

  function classes() {
    const buttons = state.names.map((name, way) => element("button", {
      type: "button", id: `class-${way}`, class: `complex way-${way}`, "aria-pressed": String(state.way === way),
      onclick: () => { state.way = way; draw(); },
    }, `${way + 1} ${name}: ${countLabelled(way)} labelled`));
    return element("div", {class: "complexes", role: "group", "aria-label": "Class to label"}, ...buttons);
  }

  /* Particles to show, by index: all, those accepted as a class, or those rejected. */
  function chosen(found) {
    const everyone = state.particles.map((_, i) => i);
    if (!found || state.show === "all") return everyone;
    const others = everyone.filter(i => !state.labels.has(i)), by = name => (a, b) => found[b][name] - found[a][name];
    if (state.show === "rejected") return others.filter(i => !found[i].accepted).sort(by("score"));
    return others.filter(i => found[i].accepted && found[i].label === Number(state.show)).sort(by("probability"));
  }

  function particles(found) {
    const list = chosen(found);
    if (state.first >= list.length) state.first = 0;
    const buttons = list.slice(state.first, state.first + SHOWN).map(i => {
      const particle = state.particles[i], way = state.labels.get(i), answer = found && way === undefined ? found[i] : undefined;
      const accepted = answer?.accepted ? answer.label : undefined;
      const below = !answer ? "" : answer.accepted ? `${answer.label + 1}: ${Math.round(100 * answer.probability)} %` : "rejected";
      const said = way !== undefined ? `, labelled ${state.names[way]}` : accepted === undefined ? "" : `, ${state.names[accepted]}`;
      return particleButton(`particle-${i}`, pictureOf(particle), way, `${particle.name}${said}`,
        (other = state.way) => toggle(i, other), below, accepted);
    });
    const ways = [["all", "all particles"], ...state.names.map((name, way) => [String(way), `accepted as ${name}`]),
      ["rejected", "rejected"]].map(([value, said]) => [value, said, value === state.show]);
    const turnTo = part => { Object.assign(state, part); draw(); };
    return [
      element("div", {class: "controls"},
        found ? options("show", "Show", ways, show => turnTo({show, first: 0})) : "",
        element("span", {}, list.length ? `${state.first + 1} to ${state.first + buttons.length} of ${list.length}` : "none"),
        list.length > SHOWN ? button("Other particles", () => turnTo({first: state.first + SHOWN})) : ""),
      element("div", {class: "particles", role: "group", "aria-label": "Particles"}, ...buttons)];
  }

  function pictureOf(particle) {
    if (!particle.url) {
      const box = encoder.box, canvas = element("canvas", {width: box, height: box}), context = canvas.getContext("2d");
      const image = context.createImageData(box, box);
      particle.picture.forEach((grey, i) => image.data.set([grey, grey, grey, 255], 4 * i));
      context.putImageData(image, 0, 0);
      particle.url = canvas.toDataURL();
    }
    return `background-image:url(${particle.url});background-size:48px 48px`;
  }

  function verdict(answer) {
    const others = state.particles.map((_, i) => i).filter(i => !state.labels.has(i)), found = answer.particles;
    const accepted = others.filter(i => found[i].accepted), snr = Math.exp(answer.looks.log_snr);
    const text = `Of ${others.length} particles without a label ${accepted.length} are accepted and ` +
      `${others.length - accepted.length} rejected. ` +
      (answer.tested ? `Left out in turn, ${answer.right} of ${answer.tested} labelled particles are assigned to their own class. ` : "") +
      (answer.fitted ? `The scatter within classes is fitted to these particles, ${answer.fitted}. ` :
        "There are too few particles to fit the scatter within classes to: it is the encoder's. ") +
      `To the encoder the particles look as noisy as simulated ones of SNR ${snr.toPrecision(2)}, and ` +
      `${answer.looks.crowding >= CROWDED ? "crowded, as in cells" : "alone in their boxes"}.`;
    const rows = state.names.map((name, way) => {
      const most = others.filter(i => found[i].label === way), kept = most.filter(i => found[i].accepted);
      const mean = kept.length ? (sum(kept.map(i => found[i].probability)) / kept.length).toFixed(2) : "";
      return element("tr", {}, element("th", {scope: "row"}, name),
        ...[countLabelled(way), most.length, kept.length, mean].map(value => element("td", {}, String(value))));
    });
    return [
      element("p", {"aria-live": "polite", class: "verdict"}, text),
      tableOf("Particles by class", ["labelled", "most probable", "accepted", "mean probability"], rows),
      element("p", {}, button("Download as csv", () => download(found)))];
  }

  function download(found) {
    const blob = new Blob([csvOf(state, found)], {type: "text/csv"});
    const link = element("a", {href: URL.createObjectURL(blob), download: "classified.csv"});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function asides() {
    const lists = [["refused", state.refused.map(({name, why}) => `${name}: ${why}`)],
      ["left out", state.skipped], ["remarks on headers", state.remarks]];
    return lists.filter(([, lines]) => lines.length).map(([what, lines]) => element("details", {},
      element("summary", {}, `${lines.length} ${what}, as ${lines[0]}`),
      element("ul", {}, ...lines.slice(0, 200).map(line => element("li", {}, line)))));
  }

  /* Classify after a change of labels: at once or, with many particles, when no other change has come for a while. */
  let waiting;
  function changed() {
    clearTimeout(waiting);
    const work = () => {
      const enough = new Set(state.labels.values()).size > 1;
      state.answer = enough ? classified(state.particles, state.labels, encoder, state.rate) : undefined;
      draw();
    };
    if (state.particles.length < MANY) return work();
    draw();
    waiting = setTimeout(work, 500);
  }

  function draw() {
    const answer = state.answer, ready = bar.hidden && state.particles.some(particle => particle.embedding);
    labelling.hidden = !ready;
    settings.hidden = !state.files.length;
    const parts = new Set(state.particles.map(({name}) => name.split("/").slice(-2, -1)[0] || name.replace(/[\d_.-]*\.\w+$/, "")));
    nameParts.replaceChildren(...[...parts].slice(0, 20).map(value => element("option", {value})));
    const next = state.names.length > 1 ? "Label particles of at least two classes." :
      "Add two classes or more by their names, and click particles to label them.";
    drawInto(below, ...asides(), ...(ready ? [classes(), ...particles(answer?.particles)] : []),
      ...(answer ? verdict(answer) : ready ? [element("p", {class: "verdict"}, next)] : []));
  }

  draw();
  return {add, state};
}

/* A row per particle, refused ones with the reason. */
function csvOf(state, found) {
  const cell = value => /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const rows = state.particles.map(({name}, i) => [name, state.names[found[i].label], found[i].probability.toFixed(4),
    found[i].score.toFixed(3), Number(found[i].accepted), state.labels.has(i) ? state.names[state.labels.get(i)] : "", ""]);
  const refused = state.refused.map(({name, why}) => [name, "", "", "", 0, "", why]);
  const header = ["particle", "class", "probability", "score", "accepted", "label", "reason"];
  return [header, ...rows, ...refused].map(row => row.map(cell).join(",")).join("\n") + "\n";
}

addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("your-particles");
  if (place) startYourParticles(place);
});

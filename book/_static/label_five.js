/* Label five, and watch: the page. */
"use strict";

/* ProtoNet3D: the class of the nearest prototype, for every particle. */
function nearestPrototype(embeddings, labels) {
  const prototypes = supportOf(labels).map(([way, members]) => [way, meanOf(members.map(i => embeddings[i]))]);
  return embeddings.map(row => {
    const distances = prototypes.map(([, centre]) => sum(centre.map((value, axis) => (row[axis] - value) ** 2)));
    return prototypes[distances.indexOf(Math.min(...distances))][0];
  });
}

function startLabelFive(place, data) {
  place.classList.add("few-shot");
  const n = data.truth.length, known = data.n_known;
  const names = data.names, short = data.names.map(name => name.split(" ")[0]);
  const everyone = data.truth.map((_, i) => i);
  const embeddings = {};
  for (const [snr, of] of Object.entries(data.snrs)) {
    embeddings[snr] = {protonet: rowsOf(of.protonet, n), pretrained: rowsOf(of.pretrained, n), looks: of};
  }
  const state = {snr: Object.keys(data.snrs)[0], way: 0, labels: new Map(), first: 0, reveal: false};

  function picture(sheet, columns, number, size) {
    return `background-image:url(data:image/png;base64,${sheet});background-size:${columns * size}px auto;` +
      `background-position:-${(number % columns) * size}px -${Math.floor(number / columns) * size}px`;
  }

  function toggle(particle, way) {
    if (way >= known) return;
    state.way = way;
    if (state.labels.get(particle) === way) state.labels.delete(particle);
    else state.labels.set(particle, way);
    draw();
  }

  function expert(shots) {
    state.labels.clear();
    for (let way = 0; way < known; way++) {
      const pool = everyone.filter(i => data.truth[i] === way);
      for (let k = 0; k < shots; k++) state.labels.set(pool.splice(Math.floor(Math.random() * pool.length), 1)[0], way);
    }
    draw();
  }

  function choices() {
    const buttons = names.slice(0, known).map((name, way) => element("button", {
      type: "button", id: `complex-${way}`, class: `complex way-${way}`, "aria-pressed": String(state.way === way),
      onclick: () => { state.way = way; draw(); },
    }, element("span", {class: "sample", style: picture(data.references, names.length, way, 64)}),
      `${way + 1} ${name}`));
    return element("div", {class: "complexes", role: "group", "aria-label": "Complex to label"}, ...buttons);
  }

  function particles() {
    const shown = everyone.slice(state.first, state.first + SHOWN);
    return element("div", {class: "particles", role: "group", "aria-label": "Particles"}, ...shown.map(i => {
      const way = state.labels.get(i), truth = short[data.truth[i]];
      return particleButton(
        `particle-${i}`, picture(data.snrs[state.snr].pictures, 20, i, 48), way,
        `Particle ${i + 1}${way === undefined ? "" : `, labelled ${names[way]}`}`,
        (chosen = state.way) => toggle(i, chosen), state.reveal ? truth : "");
    }));
  }

  function controls() {
    const snrs = Object.keys(data.snrs).map(snr => element("label", {}, element("input", {
      type: "radio", id: `snr-${snr}`, name: "label-five-snr", value: snr, checked: snr === state.snr,
      onchange: () => { state.snr = snr; draw(); },
    }), ` SNR ${snr} `));
    const button = (words, action) => element(
      "button", {type: "button", id: `do ${words}`, class: "action", onclick: action}, words);
    return element("div", {class: "controls"},
      element("span", {role: "group", "aria-label": "Noise"}, ...snrs),
      button("Other particles", () => { state.first = (state.first + SHOWN) % n; draw(); }),
      element("label", {}, element("input", {
        type: "checkbox", id: "reveal", checked: state.reveal, onchange: event => { state.reveal = event.target.checked; draw(); },
      }), " show what they are"),
      element("span", {}, "Let an expert label ", ...[1, 2, 5].map(shots => button(`${shots} each`, () => expert(shots)))),
      button("Clear", () => { state.labels.clear(); draw(); }));
  }

  function confusion(title, answer, ways, rejected) {
    const columns = [...ways.map(way => short[way]), ...(rejected ? ["rejected"] : [])];
    const rows = [...Array(known).keys(), "unknown complexes"].map(row => {
      const members = everyone.filter(i => !state.labels.has(i) &&
        (row === "unknown complexes" ? data.truth[i] >= known : data.truth[i] === row));
      const counts = [...ways.map(way => members.filter(i => answer(i) === way).length),
        ...(rejected ? [members.filter(i => answer(i) === null).length] : [])];
      return element("tr", {}, element("th", {scope: "row"}, names[row] ?? row), ...counts.map((count, k) => {
        const right = ways[k] === row || (row === "unknown complexes" && rejected && k === counts.length - 1);
        return element("td", right ? {class: "right"} : {}, String(count));
      }));
    });
    return tableOf(title, columns, rows);
  }

  function verdict() {
    const ways = supportOf(state.labels).map(([way]) => way);
    if (ways.length < 2) return [element("p", {"aria-live": "polite"}, "Label particles of at least two complexes.")];
    const of = embeddings[state.snr];
    const nearest = nearestPrototype(of.protonet, state.labels), found = recognise(of.pretrained, state.labels, data, of.looks).particles;
    const asked = everyone.filter(i => !state.labels.has(i) && ways.includes(data.truth[i]));
    const strange = everyone.filter(i => !state.labels.has(i) && !ways.includes(data.truth[i]));
    const share = (list, test) => list.length ? `${Math.round(100 * list.filter(test).length / list.length)} %` : "none";
    const wrong = [...state.labels].filter(([i, way]) => data.truth[i] !== way).length;
    const text = `Of ${asked.length} other particles of these ${ways.length} complexes, ProtoNet3D names ` +
      `${share(asked, i => nearest[i] === data.truth[i])} correctly, the pretrained encoder ` +
      `${share(asked, i => found[i].label === data.truth[i])}. It would accept ${share(asked, i => found[i].accepted)} ` +
      `of them, and ${share(strange, i => found[i].accepted)} of the ${strange.length} particles of other complexes. ` +
      (wrong ? `${wrong} of your ${state.labels.size} labels are wrong.` : `All ${state.labels.size} labels are right.`);
    const rejected = everyone.filter(i => !state.labels.has(i) && !found[i].accepted)
      .sort((a, b) => found[a].score - found[b].score).slice(0, 24);
    return [
      element("p", {"aria-live": "polite", class: "verdict"}, text),
      confusion("ProtoNet3D: true complex by row, answer by column", i => nearest[i], ways, false),
      confusion("Pretrained encoder, with rejection", i => found[i].accepted ? found[i].label : null, ways, true),
      element("p", {}, "Rejected most firmly:"),
      element("div", {class: "particles"}, ...rejected.map(i => element("span", {
        class: "particle", role: "img", style: picture(data.snrs[state.snr].pictures, 20, i, 48),
        "aria-label": `Particle ${i + 1}, ${names[data.truth[i]]}`,
      }, element("small", {}, short[data.truth[i]])))),
    ];
  }

  function draw() {
    drawInto(place, choices(), controls(), particles(), ...verdict());
  }

  draw();
}

addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("label-five");
  if (place) startLabelFive(place, JSON.parse(document.getElementById("label-five-data").textContent));
});

/* Label five, and watch: the arithmetic of protonet.py, plda.py, calibration.py and recogniser.py, and the page. */
"use strict";

const PRIOR_WEIGHT = 10;   // as in calibration.py
const SHOWN = 60;          // particles at a time

/* ---------------------------------------------------------------- arithmetic */

function rowsOf(base64, n) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const values = new Float32Array(bytes.buffer), dim = values.length / n;
  return Array.from({length: n}, (_, i) => values.subarray(i * dim, (i + 1) * dim));
}

const sum = values => values.reduce((total, value) => total + value, 0);

function logSumExp(values) {
  const top = Math.max(...values);
  return top + Math.log(sum(values.map(value => Math.exp(value - top))));
}

/* Labelled particles by class, in the order of the class: [[class, [particle, ...]], ...]. */
function supportOf(labels) {
  const ways = new Map();
  for (const [particle, way] of labels) ways.set(way, [...(ways.get(way) || []), particle]);
  return [...ways].sort((a, b) => a[0] - b[0]);
}

function meanOf(rows) {
  return Array.from(rows[0], (_, axis) => sum(rows.map(row => row[axis])) / rows.length);
}

/* ProtoNet3D: the class of the nearest prototype, for every particle. */
function nearestPrototype(embeddings, labels) {
  const prototypes = supportOf(labels).map(([way, members]) => [way, meanOf(members.map(i => embeddings[i]))]);
  return embeddings.map(row => {
    const distances = prototypes.map(([, centre]) => sum(centre.map((value, axis) => (row[axis] - value) ** 2)));
    return prototypes[distances.indexOf(Math.min(...distances))][0];
  });
}

/* log N(row; mean, diag(variance)) without the constant of 2 pi. */
function logNormal(row, mean, variance) {
  return -0.5 * sum(variance.map((v, axis) => (row[axis] - mean[axis]) ** 2 / v + Math.log(v)));
}

/* What thresholds and temperatures are linear in; beyond what was measured the nearest counts. */
function termsOf(nShot, nWay, looks, limits) {
  const clip = (value, [low, high]) => Math.min(Math.max(value, low), high);
  const shot = clip(nShot, limits.n_shot), snr = clip(looks.log_snr, limits.log_snr);
  const alone = [1, Math.log(shot), 1 / shot, Math.log(clip(nWay, limits.n_way)), snr, Math.log(shot) * snr];
  const crowd = clip(looks.crowding, limits.crowding);
  return [...alone, crowd, crowd * Math.log(shot), crowd * snr];
}

function dot(a, b) {
  return sum(a.map((value, i) => value * b[i]));
}

/* PLDA with the encoder's calibration: class, probability and acceptance of every particle.
   looks: how noisy and how crowded all particles are, log_snr and crowding. */
function recognise(embeddings, labels, data, looks) {
  const ways = supportOf(labels), between = data.between;
  const means = ways.map(([, members]) => meanOf(members.map(i => embeddings[i])));
  const scatter = sum(ways.flatMap(([, members], k) => members.map(
    i => sum(means[k].map((value, axis) => (embeddings[i][axis] - value) ** 2)) / between.length)));
  const within = (scatter + PRIOR_WEIGHT) / (labels.size - ways.length + PRIOR_WEIGHT);
  const classes = ways.map(([, members], k) => {
    const variances = between.map(b => 1 / (1 / b + members.length / within));
    return {
      centre: variances.map((v, axis) => v * means[k][axis] * members.length / within),
      spread: variances.map(v => v + within),
    };
  });
  const nShot = ways.length / sum(ways.map(([, members]) => 1 / members.length));
  const terms = termsOf(nShot, ways.length, looks, data.limits);
  const temperature = Math.exp(dot(terms, data.temperature));
  const threshold = Math.min(...data.thresholds.map(factors => dot(terms, factors)));
  const nowhere = between.map(() => 0), anywhere = between.map(b => b + within);
  const atCentre = sum(classes.map(({spread}) => 0.5 * sum(spread.map((v, axis) => Math.log(anywhere[axis] / v)))));
  return embeddings.map(row => {
    const likelihoods = classes.map(({centre, spread}) => logNormal(row, centre, spread));
    const ratio = logSumExp(likelihoods) - Math.log(ways.length) - logNormal(row, nowhere, anywhere);
    const score = ratio - atCentre / ways.length;
    const scaled = likelihoods.map(value => value / temperature);
    return {
      label: ways[likelihoods.indexOf(Math.max(...likelihoods))][0],
      probability: Math.exp(Math.max(...scaled) - logSumExp(scaled)),
      score,
      accepted: score >= threshold,
    };
  });
}

/* ---------------------------------------------------------------- the page */

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function start(place, data) {
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

  function toggle(particle) {
    const labels = state.labels;
    if (labels.get(particle) === state.way) labels.delete(particle);
    else labels.set(particle, state.way);
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
    const sheet = data.snrs[state.snr].pictures;
    const shown = everyone.slice(state.first, state.first + SHOWN);
    return element("div", {class: "particles", role: "group", "aria-label": "Particles"}, ...shown.map(i => {
      const way = state.labels.get(i), truth = short[data.truth[i]];
      const said = way === undefined ? "" : `, labelled ${names[way]}`;
      return element("button", {
        type: "button", id: `particle-${i}`, class: way === undefined ? "particle" : `particle labelled way-${way}`,
        style: picture(sheet, 20, i, 48), "aria-label": `Particle ${i + 1}${said}${state.reveal ? `, truly ${truth}` : ""}`,
        onclick: () => toggle(i),
        onkeydown: event => {
          const way = Number(event.key) - 1;
          if (way >= 0 && way < known) { state.way = way; toggle(i); }
        },
      }, way === undefined ? "" : String(way + 1), state.reveal ? element("small", {}, truth) : "");
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
    return element("div", {class: "table-frame", tabindex: "0", role: "region", "aria-label": title},
      element("table", {}, element("caption", {}, title), element("thead", {}, element("tr", {}, element("td", {}),
        ...columns.map(name => element("th", {scope: "col"}, name)))), element("tbody", {}, ...rows)));
  }

  function verdict() {
    const ways = supportOf(state.labels).map(([way]) => way);
    if (ways.length < 2) return [element("p", {"aria-live": "polite"}, "Label particles of at least two complexes.")];
    const of = embeddings[state.snr];
    const nearest = nearestPrototype(of.protonet, state.labels), found = recognise(of.pretrained, state.labels, data, of.looks);
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
    const focused = document.activeElement?.id;
    place.replaceChildren(choices(), controls(), particles(), ...verdict());
    if (focused) document.getElementById(focused)?.focus({preventScroll: true});
  }

  draw();
}

addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("label-five");
  if (place) start(place, JSON.parse(document.getElementById("label-five-data").textContent));
});

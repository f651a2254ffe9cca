/* What both pages to play share: the arithmetic of plda.py, calibration.py, recogniser.py and support_check.py, and
   parts of a page. */
"use strict";

const PRIOR_WEIGHT = 10;     // as in calibration.py
const TEMPERED_BY = 0.15;    // as in support_check.py
const SHOWN = 60;            // particles at a time

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

/* A class from the sum and number of its labelled particles: where its centre lies, how widely particles scatter. */
function classFrom(total, count, between, within) {
  const variances = between.map(b => 1 / (1 / b + count / within));
  return {centre: variances.map((v, axis) => v * total[axis] / within), spread: variances.map(v => v + within)};
}

/* PLDA with the encoder's calibration. particles: class, probability, score and acceptance of every one; right of tested:
   labelled ones that are put into their own class when left out in turn.
   looks: how noisy and how crowded particles are, log_snr and crowding: all of them, and the labelled ones alone. */
function recognise(embeddings, labels, data, looks, looksOfLabelled = looks) {
  const ways = supportOf(labels), between = data.between;
  const rowsOfWay = ways.map(([, members]) => members.map(i => embeddings[i]));
  const means = rowsOfWay.map(meanOf), totals = means.map((mean, k) => mean.map(value => value * rowsOfWay[k].length));
  const scatter = sum(rowsOfWay.flatMap((rows, k) => rows.map(
    row => sum(means[k].map((value, axis) => (row[axis] - value) ** 2)) / between.length)));
  const within = (scatter + PRIOR_WEIGHT) / (labels.size - ways.length + PRIOR_WEIGHT);
  const classes = totals.map((total, k) => classFrom(total, rowsOfWay[k].length, between, within));
  const likelihoodsOf = row => classes.map(({centre, spread}) => logNormal(row, centre, spread));
  const nShot = ways.length / sum(ways.map(([, members]) => 1 / members.length));
  const temperatureOf = (shots, of) => Math.exp(dot(termsOf(shots, ways.length, of, data.limits), data.temperature));

  const leftOut = rowsOfWay.flatMap((rows, k) => rows.length === 1 ? [] : rows.map(row => {
    const likelihoods = likelihoodsOf(row);
    const {centre, spread} = classFrom(totals[k].map((value, axis) => value - row[axis]), rows.length - 1, between, within);
    likelihoods[k] = logNormal(row, centre, spread);
    const temperature = temperatureOf(nShot - 1, looksOfLabelled);
    return {own: k, logits: likelihoods.map(value => value / temperature)};
  }));
  const temperature = temperatureOf(nShot, looks) * tempered(leftOut);
  const threshold = Math.min(...data.thresholds.map(factors => dot(termsOf(nShot, ways.length, looks, data.limits), factors)));
  const nowhere = between.map(() => 0), anywhere = between.map(b => b + within);
  const atCentre = sum(classes.map(({spread}) => 0.5 * sum(spread.map((v, axis) => Math.log(anywhere[axis] / v)))));
  const particles = embeddings.map(row => {
    const likelihoods = likelihoodsOf(row);
    const ratio = logSumExp(likelihoods) - Math.log(ways.length) - logNormal(row, nowhere, anywhere);
    const score = ratio - atCentre / ways.length;
    const scaled = likelihoods.map(value => value / temperature);
    return {
      label: ways[argMax(likelihoods)][0],
      probability: Math.exp(Math.max(...scaled) - logSumExp(scaled)),
      score,
      accepted: score >= threshold,
    };
  });
  const right = leftOut.filter(({own, logits}) => argMax(logits) === own).length;
  return {particles, tested: leftOut.length, right};
}

/* The factor on the temperature that makes the labels of particles left out most likely, with a prior for 1. */
function tempered(leftOut) {
  const cost = log => 0.5 * (log / TEMPERED_BY) ** 2 + sum(leftOut.map(({own, logits}) => {
    const scaled = logits.map(value => value / Math.exp(log));
    return logSumExp(scaled) - scaled[own];
  }));
  let low = -1.5, high = 1.5;
  for (let step = 0; step < 40; step++) {    // golden section
    const third = 0.381966 * (high - low);
    if (cost(low + third) < cost(high - third)) high -= third;
    else low += third;
  }
  return Math.exp((low + high) / 2);
}

const argMax = values => values.indexOf(Math.max(...values));

/* ---------------------------------------------------------------- parts of a page */

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/* A particle as a button that labels it, by click or by the number of a class; `below` stands under its picture. */
function particleButton(id, style, way, said, toggle, below, belowWay) {
  const shown = [...(way === undefined ? [] : [String(way + 1)]), ...(below ? [below] : [])];
  return element("button", {
    type: "button", id, class: way === undefined ? "particle" : `particle labelled way-${way}`, style,
    "aria-label": [...shown, said].join(", "), onclick: () => toggle(),
    onkeydown: event => { if (event.key >= "1" && event.key <= "9") toggle(Number(event.key) - 1); },
  }, way === undefined ? "" : String(way + 1),
  below ? element("small", belowWay === undefined ? {} : {class: `way-${belowWay}`}, below) : "");
}

/* Draw anew, and leave the keyboard where it was. */
function drawInto(place, ...children) {
  const focused = document.activeElement?.id;
  place.replaceChildren(...children);
  if (focused) document.getElementById(focused)?.focus({preventScroll: true});
}

function tableOf(title, columns, rows) {
  return element("div", {class: "table-frame", tabindex: "0", role: "region", "aria-label": title},
    element("table", {}, element("caption", {}, title), element("thead", {}, element("tr", {}, element("td", {}),
      ...columns.map(name => element("th", {scope: "col"}, name)))), element("tbody", {}, ...rows)));
}

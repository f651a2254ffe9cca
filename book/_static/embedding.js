/* Particles of files, embedded and classified: workers, and the arithmetic of opening.py and classify.py. */
"use strict";

const RATES = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2];    // the first of calibration.py
const CROWDED = 0.5;                                  // as in calibration.py
const CONTRAST_SAMPLE = 48, ONE_SIDED = 0.35, LEAST_SHARE = 0.15;    // as in opening.py

const binary = base64 => Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));

/* A script of megabytes beside this one, loaded when it is needed. */
function scriptBeside(name) {
  const here = document.querySelector('script[src*="embedding.js"]').src;
  return new Promise((done, failed) => document.head.append(element("script", {
    src: new URL(name, here).href, onload: done, onerror: () => failed(Error(`${name} is missing beside the book's pages`)),
  })));
}

/* ask(message): a promise of what `volumeTools` answers, in a worker of its own. */
function newWorker(encoder) {
  const script = `${volumeTools}
    let tools, failure;
    onmessage = async ({data}) => {
      if (failure) { postMessage({refused: "this browser cannot compute the encoder (" + failure + ")"}); return; }
      if (!tools) { try { tools = volumeTools(data); } catch (error) { failure = error.message; } return; }
      try { postMessage(tools.answer({...data, bytes: await data.blob.arrayBuffer()})); }
      catch (error) { postMessage({refused: error.message}); }
    };`;
  const worker = new Worker(URL.createObjectURL(new Blob([script], {type: "text/javascript"})));
  worker.postMessage(encoder);
  return message => new Promise((done, failed) => {
    worker.onmessage = ({data}) => done(data);
    worker.onerror = event => failed(Error(event.message));
    worker.postMessage(message);
  });
}

async function openEncoder() {
  await scriptBeside("encoder.js");
  const encoder = {...ENCODER, weights: new Int16Array(binary(ENCODER.weights).buffer)};
  const count = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));
  return {...encoder, workers: Array.from({length: count}, () => newWorker(encoder))};
}

/* Ask the workers the same of each particle; `use` gets every answer. isCurrent: whether answers are still wanted. */
function askOfEach(encoder, particles, question, isCurrent, use) {
  let next = 0;
  return Promise.all(encoder.workers.map(async ask => {
    while (next < particles.length && isCurrent()) {
      const particle = particles[next++], {from, to, layout} = particle;
      const answer = await ask({...question, layout, blob: particle.blob.slice(from, to)});
      if (isCurrent()) use(particle, answer);
    }
  }));
}

/* Particles of files [{file, path}] with the box and voxel size that most have; what is refused, and why; remarks. */
async function openFiles(files, given) {
  const found = [], refused = [], remarks = new Map(), sizes = new Map();
  for (const {file, path} of files) {
    try {
      const read = await (NPZ_NAME.test(path) ? particlesOfArchive : particlesOf)(file, path, given);
      found.push(...read.particles);
      for (const remark of read.remarks) remarks.set(remark, (remarks.get(remark) || 0) + 1);
    } catch (error) {
      refused.push({name: path, why: error.message});
    }
  }
  for (const particle of found) {
    const {n, voxelNm} = particle.layout;
    particle.size = `box of ${n} voxels of ${Number(voxelNm.toPrecision(4))} nm`;
    sizes.set(particle.size, (sizes.get(particle.size) || 0) + 1);
  }
  const [common] = [...sizes].sort((a, b) => b[1] - a[1])[0] || [];
  for (const {name, size} of found.filter(particle => particle.size !== common)) {
    refused.push({name, why: `${size}, but most have a ${common}; bring all to one`});
  }
  return {particles: found.filter(({size}) => size === common), refused, common, remarks: [...remarks].map(
    ([remark, count]) => `${remark} (${count} of ${files.length} files)`)};
}

/* Whether protein looks dark: {dark, mixed}; dark undefined where nothing is seen, mixed in words where it is both. */
async function lookAtContrast(encoder, particles, isCurrent) {
  const count = Math.min(CONTRAST_SAMPLE, particles.length), extremes = [];
  const sample = Array.from({length: count}, (_, i) => particles[Math.floor(i * (particles.length - 1) / Math.max(1, count - 1))]);
  await askOfEach(encoder, sample, {look: true}, isCurrent, (_, answer) => { if (answer.extremes) extremes.push(answer.extremes); });
  return contrastOf(extremes);
}

function contrastOf(extremes) {
  if (extremes.length < 3) return {mixed: ""};
  const balance = extremes.map(([high, low]) => high + low), mean = sum(balance) / balance.length;
  const spread = Math.sqrt(sum(balance.map(value => (value - mean) ** 2)) / (balance.length - 1));
  const sides = extremes.map(([high, low]) => (high + low) / Math.max(high - low, 1e-12));
  const bright = sides.filter(side => side > ONE_SIDED).length, dark = sides.filter(side => side < -ONE_SIDED).length;
  const both = Math.min(bright, dark) >= Math.max(3, LEAST_SHARE * sides.length);
  return {
    dark: Math.abs(mean) < 3 * spread / Math.sqrt(balance.length) ? undefined : mean < 0,
    mixed: both ? `protein is bright in ${bright} and dark in ${dark} of ${sides.length} particles examined` : "",
  };
}

/* An embedding in both geometries of classes, of particles alone in their boxes and as in cells. */
function projections(embedding, encoder) {
  return [encoder.space, encoder.crowded_space].map(({mean, axes, between}) => {
    const found = between.map(() => 0);
    embedding.forEach((value, i) => axes[i].forEach((factor, axis) => { found[axis] += (value - mean[i]) * factor; }));
    return found;
  });
}

/* What `classify` says of particles {embedding, projected, descriptors, grey} with these labels, class by index: scores and
   acceptance in the encoder's geometry, classes and probabilities in that of these particles where it can be fitted. */
function classified(particles, labels, encoder, rate) {
  const looksOf = some => {
    const mean = meanOf(some.map(particle => particle.embedding));
    const along = weights => dot(mean, weights.slice(0, -1)) + weights.at(-1);
    return {log_snr: along(encoder.noise), crowding: along(encoder.crowd)};
  };
  const looks = looksOf(particles), which = looks.crowding >= CROWDED ? 1 : 0;
  const looksOfLabelled = looksOf([...labels.keys()].map(i => particles[i]));
  const thresholds = encoder.thresholds.slice(0, RATES.indexOf(rate) + 1);    // the least: a higher rate never asks for more
  const data = {...encoder, between: [encoder.space, encoder.crowded_space][which].between, thresholds};
  const own = particles.map(({projected}) => projected[which]), inOwn = recognise(own, labels, data, looks, looksOfLabelled);
  const unlabelled = particles.map((_, i) => i).filter(i => !labels.has(i));
  const repeats = labels.size - supportOf(labels).length;              // a second particle of a class shows its scatter
  if (!unlabelled.length || unlabelled.length + OF_LABELLED * repeats < FEWEST) return {...inOwn, looks, fitted: ""};
  const grey = relativeGrey(particles.map(particle => particle.grey), [...labels.keys()], unlabelled);
  const blocks = [own, particles.map(particle => particle.descriptors), ...(grey ? [grey] : [])];
  const fit = fittedSpace(blocks, data.between, supportOf(labels), unlabelled.slice(0, MOST_UNLABELLED));
  const inFitted = recognise(fit.rows, labels, {...data, between: fit.between}, looks, looksOfLabelled);
  const merged = inOwn.particles.map(({score, accepted}, i) => ({...inFitted.particles[i], score, accepted}));
  return {...inFitted, particles: merged, looks, fitted: `with profile and power${grey ? " and grey values" : ""}`};
}

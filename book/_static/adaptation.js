/* How classes scatter in the particles at hand: the arithmetic of domain.py and grey_scale.py. Matrices are arrays of rows. */
"use strict";

const FEWEST = 50, OF_LABELLED = 5, MOST_UNLABELLED = 5000, N_STEPS = 15, BLOCK_WEIGHTS = [1, 0.5, 0.7];    // as in domain.py and classify.py
const SCATTER_PRIOR = 30, PRIOR_SHARE = 0.4, UNKNOWN_FREQUENCY = 0.001, SMALLEST_BETWEEN = 0.05;
const NORMALISED = 0.15, LIKE = 1.5;                                                       // as in grey_scale.py

/* ---------------------------------------------------------------- matrices */

const zeros = (rows, columns) => Array.from({length: rows}, () => new Float64Array(columns));
const turned = a => Array.from(a[0], (_, j) => Float64Array.from(a, row => row[j]));
const combined = (a, b, use) => a.map((row, i) => row.map((value, j) => use(value, b[i][j])));

function product(a, b) {
  const found = zeros(a.length, b[0].length);
  a.forEach((row, i) => row.forEach((value, k) => {
    const from = b[k], to = found[i];
    if (value) for (let j = 0; j < from.length; j++) to[j] += value * from[j];
  }));
  return found;
}

/* The lower triangle whose product with its transpose is a. */
function choleskyOf(a) {
  const lower = zeros(a.length, a.length);
  for (let i = 0; i < a.length; i++) for (let j = 0; j <= i; j++) {
    let rest = a[i][j];
    for (let k = 0; k < j; k++) rest -= lower[i][k] * lower[j][k];
    lower[i][j] = i === j ? Math.sqrt(rest) : rest / lower[j][j];
  }
  return lower;
}

function inverseOfLower(lower) {
  const found = zeros(lower.length, lower.length);
  for (let column = 0; column < lower.length; column++) for (let i = column; i < lower.length; i++) {
    let rest = i === column ? 1 : 0;
    for (let k = column; k < i; k++) rest -= lower[i][k] * found[k][column];
    found[i][column] = rest / lower[i][i];
  }
  return found;
}

/* Eigenvalues in rising order and eigenvectors, as columns, of a symmetric matrix, by Jacobi's rotations. */
function eigenOf(symmetric) {
  const a = symmetric.map(row => row.slice()), n = a.length, vectors = a.map((_, i) => new Float64Array(n).fill(1, i, i + 1));
  for (let sweep = 0, off = 1; sweep < 30 && off > 1e-18; sweep++) {
    off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) {
      off += a[p][q] ** 2 / (Math.abs(a[p][p] * a[q][q]) + 1e-300);
      if (Math.abs(a[p][q]) < 1e-300) continue;
      const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
      const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1)), c = 1 / Math.sqrt(t * t + 1), s = t * c;
      const turn = (row, other, i, j) => {
        const x = row[i], y = other[j];
        row[i] = c * x - s * y;
        other[j] = s * x + c * y;
      };
      for (let k = 0; k < n; k++) {
        turn(a[k], a[k], p, q);
        turn(vectors[k], vectors[k], p, q);
      }
      for (let k = 0; k < n; k++) turn(a[p], a[q], k, k);
    }
  }
  const order = a.map((_, i) => i).sort((i, j) => a[i][i] - a[j][j]);
  return {values: order.map(i => a[i][i]), vectors: vectors.map(row => Float64Array.from(order, i => row[i]))};
}

/* Sum over rows of weight times the row times itself. */
function scatterOf(rows, weights) {
  const k = rows[0].length, found = zeros(k, k);
  rows.forEach((row, n) => {
    for (let i = 0; i < k; i++) {
      const value = weights[n] * row[i], to = found[i];
      for (let j = 0; j <= i; j++) to[j] += value * row[j];
    }
  });
  for (let i = 0; i < k; i++) for (let j = 0; j < i; j++) found[j][i] = found[i][j];
  return found;
}

function covarianceOf(rows) {
  const mean = meanOf(rows), centred = rows.map(row => row.map((value, i) => value - mean[i]));
  return scatterOf(centred, centred.map(() => 1 / (rows.length - 1)));
}

/* ---------------------------------------------------------------- the fit */

const averageOf = values => sum(values) / values.length;
const spreadOf = (values, mean = averageOf(values)) => Math.sqrt(sum(values.map(v => (v - mean) ** 2)) / (values.length - 1));
const medianOf = values => [...values].sort((a, b) => a - b)[(values.length - 1) >> 1];

/* Grey values of each particle in those of the unlabelled ones, undefined where they say nothing. */
function relativeGrey(grey, labelled, unlabelled) {
  const [support, query] = [labelled, unlabelled].map(some => some.map(i => grey[i]));
  const normalised = some => some.length < 2 || spreadOf(some.map(([mean, spread]) => mean / Math.max(spread, 1e-9))) < NORMALISED;
  const contrasts = [support, query].map(some => medianOf(some.map(([, spread]) => spread)));
  if (normalised(support) || normalised(query) || Math.max(...contrasts) > LIKE * Math.min(...contrasts)) return undefined;
  const centre = medianOf(query.map(([mean]) => mean)), spread = contrasts[1];
  return grey.map(([mean, deviation, middle]) =>
    [(mean - centre) / spread, Math.log(Math.max(deviation / spread, 1e-6)), (middle - centre) / spread]);
}

/* Rows in axes along which particles of a class scatter alike, and `between`, how widely class centres lie along each.
   blocks: matrices of all particles, the first in the encoder's own axes, `own` the scatter of centres along these. */
function fittedSpace(blocks, own, ways, unlabelled) {
  const labelled = ways.flatMap(([, members]) => members), used = [...unlabelled, ...labelled];
  const scaled = blocks.map((block, which) => {
    const columns = turned(block), of = columns.map(column => used.map(i => column[i]));
    const means = of.map(averageOf), spreads = of.map((values, k) => Math.max(spreadOf(values, means[k]), 1e-9));
    const lengths = which ? spreads.map(spread => spread > 1e-9 ? 1 : 0) : spreads.map(spread => spread ** 2);
    const scale = BLOCK_WEIGHTS[which] / Math.max(Math.sqrt(sum(lengths)), 1e-9);
    return {scale, rows: block.map(row => Array.from(row, (value, k) => scale * (value - means[k]) / (which ? spreads[k] : 1)))};
  });
  const rows = blocks[0].map((_, i) => Float64Array.from(scaled.flatMap(block => block.rows[i])));
  const {within, frequencies} = scatterWithin(ways.map(([, members]) => members.map(i => rows[i])), unlabelled.map(i => rows[i]));
  const missing = 1 - Math.exp(-sum(frequencies.map(f => f * Math.log(f)))) / frequencies.length;    // share of the classes
  const between = combined(covarianceOf(used.map(i => rows[i])), within, (all, one) => (1 - missing) * (all - one));
  own.forEach((value, axis) => { between[axis][axis] += missing * scaled[0].scale ** 2 * value; });
  const inverse = inverseOfLower(choleskyOf(within)), {values, vectors} = eigenOf(product(product(inverse, between), turned(inverse)));
  const axes = product(turned(inverse), vectors.map(row => row.slice(-own.length)));
  const fitted = values.slice(-own.length).map(value => Math.max(value, SMALLEST_BETWEEN));
  return {rows: product(rows, axes).map(row => Array.from(row)), between: fitted};
}

/* Covariance within a class, shared by all, and frequencies of the classes, by expectation-maximisation. */
function scatterWithin(supports, unlabelled) {
  const labelled = supports.flat(), rows = [...labelled, ...unlabelled], total = covarianceOf(rows), k = total.length;
  const prior = PRIOR_SHARE * sum(total.map((row, i) => row[i])) / k;
  let within = total.map((_, i) => new Float64Array(k).fill(prior, i, i + 1)), frequencies = supports.map(() => 1 / supports.length);
  const members = supports.flatMap((support, own) => support.map(() => supports.map((_, way) => way === own ? 1 : 0)));
  let seen = labelled, weights = members;
  for (let step = 0; step < N_STEPS; step++) {
    const counts = supports.map((_, way) => sum(weights.map(row => row[way])));
    const centres = product(turned(weights), seen).map((row, way) => row.map(value => value / counts[way]));
    if (step) {
      const all = scatterOf(seen, weights.map(sum)), ofCentres = scatterOf(centres, counts), count = sum(counts) + SCATTER_PRIOR;
      within = combined(all, ofCentres, (a, b) => (a - b) / count);
      within.forEach((row, i) => { row[i] += SCATTER_PRIOR * prior / count; });
      frequencies = counts.map(n => (n + 1) / (sum(counts) + counts.length));
    }
    [seen, weights] = [rows, [...members, ...sharesOf(unlabelled, centres, counts, within, total, frequencies)]];
  }
  return {within, frequencies};
}

/* Probability of each class; what is missing to 1 is that of an unknown one, which scatters as all particles do. */
function sharesOf(unlabelled, centres, counts, within, total, frequencies) {
  const inverse = inverseOfLower(choleskyOf(within)), down = turned(inverse), k = within.length;
  const x = product(unlabelled, down), m = product(centres, down);
  const {values, vectors} = eigenOf(product(product(inverse, total), down)), variances = values.map(value => Math.max(value, 1));
  const along = product(x, vectors), logs = sum(variances.map(Math.log));
  return x.map((row, i) => {
    const known = m.map((centre, way) => {
      const spread = 1 + 1 / counts[way];
      let far = 0;
      for (let j = 0; j < k; j++) far += (row[j] - centre[j]) ** 2;
      return -0.5 * (far / spread + k * Math.log(spread)) + Math.log(frequencies[way]);
    });
    let far = 0;
    for (let j = 0; j < k; j++) far += along[i][j] ** 2 / variances[j];
    const unknown = -0.5 * (far + logs) + Math.log(UNKNOWN_FREQUENCY), all = logSumExp([...known, unknown]);
    return known.map(value => Math.exp(value - all));
  });
}

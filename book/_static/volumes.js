/* One particle from its bytes to its embedding: what mrc_particles.py, resampling.py and encoder.py do.
   All in one function, whose text becomes the worker's script: a page opened from disk may load no other. */
"use strict";

function volumeTools(encoder) {
  const box = encoder.box, axis = Array.from({length: box}, (_, i) => i);

  /* ---------------------------------------------------------------- reading and resampling */

  /* A cube of n^3 voxels as float64, zyx; order: which axis (x is 1) columns, rows and sections follow. */
  function decoded(bytes, {n, type, little, order}) {
    const view = new DataView(bytes), size = Number(type[1]), flat = new Float64Array(n ** 3);
    const get = {i1: "getInt8", u1: "getUint8", i2: "getInt16", u2: "getUint16", f4: "getFloat32", f2: "getUint16",
      i4: "getInt32", u4: "getUint32", f8: "getFloat64"}[type];
    for (let i = 0; i < flat.length; i++) flat[i] = view[get](i * size, little);
    if (type === "f2") for (let i = 0; i < flat.length; i++) flat[i] = halfFloat(flat[i]);
    const steps = order.map(along => n ** (along - 1));
    if (steps[0] === 1 && steps[1] === n) return flat;
    const volume = new Float64Array(n ** 3);
    flat.forEach((value, i) => {
      volume[(i % n) * steps[0] + (Math.floor(i / n) % n) * steps[1] + Math.floor(i / (n * n)) * steps[2]] = value;
    });
    return volume;
  }

  function halfFloat(bits) {
    const exponent = bits >> 10 & 31, sign = bits & 0x8000 ? -1 : 1, rest = bits & 1023;
    if (exponent === 31) return rest ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -24 * rest);
  }

  /* A matrix (rows x n) times data (n x rest); the new axis goes last. */
  function applied(matrix, rows, data) {
    const n = matrix.length / rows, rest = data.length / n, out = new Float64Array(rest * rows), line = new Float64Array(rest);
    for (let row = 0; row < rows; row++) {
      line.fill(0);
      for (let j = 0; j < n; j++) {
        const factor = matrix[row * n + j];
        if (factor) for (let i = 0, at = j * rest; i < rest; i++) line[i] += factor * data[at + i];
      }
      for (let i = 0; i < rest; i++) out[i * rows + row] = line[i];
    }
    return out;
  }

  const alongAxes = (matrix, rows, volume) => [0, 0, 0].reduce(data => applied(matrix, rows, data), volume);

  function moments(values) {
    const mean = values.reduce((total, value) => total + value, 0) / values.length;
    return [mean, Math.sqrt(values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length)];
  }

  /* Fourier crop or padding of one axis to the new voxel size about the centre n // 2, and zero beyond the old box. */
  function resamplingMatrix(n, ratio) {
    const step = Math.abs(ratio - 1) < 1e-3 ? 1 : ratio, matrix = new Float64Array(box * n);
    const frequencies = Array.from({length: n}, (_, i) => (i - ((n - 1) >> 1)) / n).filter(f => Math.abs(f) * step <= 0.5);
    for (const row of axis) {
      const position = (n >> 1) + (row - (box >> 1)) * step;
      if (position <= -0.5 - 1e-9 || position >= n - 0.5 + 1e-9) continue;
      for (let j = 0; j < n; j++) {
        for (const f of frequencies) matrix[row * n + j] += Math.cos(2 * Math.PI * (position - j) * f) / n;
      }
    }
    return matrix;
  }

  /* In `box` voxels of `nm`, with mean 0 and variance 1. */
  const matrices = new Map();
  function resampled(volume, {n, voxelNm}, nm) {
    const key = `${n} ${voxelNm} ${nm}`, [mean, spread] = moments(volume);
    if (!matrices.has(key)) matrices.set(key, resamplingMatrix(n, nm / voxelNm));
    const found = alongAxes(matrices.get(key), box, volume.map(value => value - mean));
    const [newMean, newSpread] = moments(found);
    if (!(newSpread > 1e-6 * spread)) throw Error(`nothing is left of it at ${nm} nm; check the voxel size`);
    return found.map(value => (value - newMean) / newSpread);
  }

  /* The Hartley transform along each axis is its own inverse and real; a filter that is even along each axis is a
     product in it. gain: of the squared distance in Fourier voxels. */
  const hartley = new Float64Array(box * box);
  for (const k of axis) {
    for (const j of axis) hartley[k * box + j] = Math.SQRT2 * Math.cos(2 * Math.PI * k * j / box - Math.PI / 4) / Math.sqrt(box);
  }
  const squared = axis.map(k => Math.min(k, box - k) ** 2);

  function filtered(volume, gain) {
    const spectrum = alongAxes(hartley, box, volume);
    let i = 0;
    for (const z of squared) for (const y of squared) for (const x of squared) spectrum[i++] *= gain(z + y + x);
    return alongAxes(hartley, box, spectrum);
  }

  /* Without what lies at or beyond Nyquist's sphere. */
  function bandLimited(volume) {
    const kept = filtered(volume, far => far > 0 && far < (box >> 1) ** 2 ? 1 : 0), spread = moments(kept)[1];
    return kept.map(value => value / spread);
  }

  /* Highest peak and deepest dip near the centre, smoothed to a few nm. */
  function extremes(volume) {
    const smooth = filtered(volume, far => Math.exp(-2 * (0.075 * Math.PI) ** 2 * far)), off = axis.map(i => (i - (box >> 1)) ** 2);
    let high = -Infinity, low = Infinity, i = 0;
    for (const z of off) for (const y of off) for (const x of off) {
      const value = smooth[i++];
      if (z + y + x >= (0.25 * box) ** 2) continue;
      if (value > high) high = value;
      if (value < low) low = value;
    }
    return [high, low];
  }

  /* Radial profile and log power per Fourier shell, as descriptors.py has them. */
  function descriptors(volume) {
    const spectrum = alongAxes(hartley, box, volume), shells = (box >> 1) - 1, n = box ** 3;
    const [profile, power] = [[], []].map(() => Array.from({length: shells}, () => [0, 0]));
    const off = axis.map(i => (i - (box >> 1)) ** 2);
    let i = 0;
    for (let z = 0; z < box; z++) for (let y = 0; y < box; y++) for (let x = 0; x < box; x++, i++) {
      const near = Math.round(Math.sqrt(off[z] + off[y] + off[x])), far = Math.round(Math.sqrt(squared[z] + squared[y] + squared[x]));
      const both = squared[x] ? 0.5 : 1;    // of the two halves of a real volume's transform one is counted
      if (near < shells) { profile[near][0] += volume[i]; profile[near][1]++; }
      if (far < shells) { power[far][0] += both * n * spectrum[i] ** 2; power[far][1] += both; }
    }
    return [...profile.map(([total, count]) => total / count),
      ...power.slice(1).map(([total, count]) => Math.log(Math.max(total / count, 1e-9)))];
  }

  /* Mean and standard deviation of a box as it lies in the file, and mean of its middle 12 nm. */
  function greyValues(volume, {n, voxelNm}) {
    const half = Math.max(1, Math.round(6 / voxelNm)), from = Math.max(0, (n >> 1) - half), to = Math.min(n, (n >> 1) + half);
    let total = 0;
    for (let z = from; z < to; z++) for (let y = from; y < to; y++) for (let x = from; x < to; x++) {
      total += volume[(z * n + y) * n + x];
    }
    return [...moments(volume), total / (to - from) ** 3];
  }

  /* Mean of the five middle slices, as bytes, the lowest row last. */
  function picture(volume) {
    const area = box * box, found = new Float64Array(area);
    for (let z = (box >> 1) - 2; z <= (box >> 1) + 2; z++) {
      for (let i = 0; i < area; i++) found[i] += volume[z * area + (box - 1 - Math.floor(i / box)) * box + i % box];
    }
    const inOrder = found.slice().sort(), low = inOrder[Math.floor(0.01 * area)], high = inOrder[Math.ceil(0.99 * area) - 1];
    return Uint8ClampedArray.from(found, value => 255 * (value - low) / Math.max(high - low, 1e-12));
  }

  /* ---------------------------------------------------------------- the network */

  /* multiply(a, end, b, out): a (k x 4), transposed, times b (k x 8), at these bytes of the memory: the one inner loop
     that takes time, as WebAssembly, four numbers at once; in plain JavaScript it takes 15 times as long. */
  function multiplication(memory) {
    const get = local => [0x20, local], set = local => [0x21, local], simd = (...code) => [0xfd, ...code];
    const [a, end, b, out, sums, left, right, value] = [0, 1, 2, 3, 4, 12, 13, 14];
    const rows = [0, 1, 2, 3].flatMap(row => [
      ...get(a), ...simd(0x09, 2, 4 * row), ...set(value),                                          // v128.load32_splat
      ...[left, right].flatMap((half, k) => [
        ...get(sums + 2 * row + k), ...get(value), ...get(half), ...simd(0xe6, 1), ...simd(0xe4, 1),  // f32x4.mul, add
        ...set(sums + 2 * row + k)])]);
    const body = [
      0x03, 0x40,                                                                                   // loop
      ...get(b), ...simd(0x00, 2, 0), ...set(left), ...get(b), ...simd(0x00, 2, 16), ...set(right),  // v128.load
      ...rows,
      ...get(a), 0x41, 16, 0x6a, ...set(a), ...get(b), 0x41, 32, 0x6a, ...set(b),                   // i32.const, add
      ...get(a), ...get(end), 0x47, 0x0d, 0, 0x0b,                                                  // i32.ne, br_if, end
      ...[0, 1, 2, 3, 4, 5, 6, 7].flatMap(i => [...get(out), ...get(sums + i), ...simd(0x0b, 2, 16 * i)]),  // v128.store
      0x0b];
    const size = n => n < 128 ? [n] : [n & 127 | 128, ...size(n >> 7)];
    const section = (id, ...bytes) => [id, ...size(bytes.length), ...bytes], letter = "m".charCodeAt(0);
    const code = [1, 11, 0x7b, ...body];                                                            // 11 locals of v128
    const module = new WebAssembly.Module(Uint8Array.from([
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, 1, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 0),                                         // four i32, no result
      ...section(2, 1, 1, letter, 1, letter, 2, 0, 1), ...section(3, 1, 0), ...section(7, 1, 1, letter, 0, 0),
      ...section(10, 1, ...size(code.length), ...code)]));
    return new WebAssembly.Instance(module, {m: {m: memory}}).exports.m;
  }

  /* The memory, in numbers: 4 x 8 products, 4 patches, the weights. */
  const longest = Math.max(...encoder.layers.map(layer => 27 * layer.in)), weightsAt = 32 + 4 * longest;
  const memory = new WebAssembly.Memory({initial: Math.ceil(4 * (weightsAt + encoder.weights.length) / 65536)});
  const numbers = new Float32Array(memory.buffer), multiply = multiplication(memory);
  let filled = weightsAt;
  for (const layer of encoder.layers) {
    layer.at = filled;
    const rows = 27 * layer.in;
    for (let i = 0; i < rows * layer.out; i++, filled++) {
      numbers[filled] = encoder.weights[filled - weightsAt] * layer.scale[8 * Math.floor(i / (8 * rows)) + i % 8];
    }
  }

  /* Features (n, n, n, channels) with a rim of zeros. */
  function padded(features, n, channels) {
    const side = n + 2, found = new Float32Array(side ** 3 * channels);
    for (let z = 0; z < n; z++) for (let y = 0; y < n; y++) {
      const from = (z * n + y) * n * channels, to = (((z + 1) * side + y + 1) * side + 1) * channels;
      found.set(features.subarray(from, from + n * channels), to);
    }
    return found;
  }

  /* Convolution of 3^3 without bias, zeros around: features (n, n, n, channels), channels last. */
  function convolved(features, n, layer) {
    const count = n ** 3, rows = 27 * layer.in, found = new Float32Array(count * layer.out);
    const source = padded(features, n, layer.in), side = n + 2, run = 3 * layer.in;
    for (let first = 0; first < count; first += 4) {
      for (let k = 0; k < 4; k++) {
        const i = Math.min(first + k, count - 1), z = Math.floor(i / (n * n)), y = Math.floor(i / n) % n, x = i % n;
        for (let line = 0, to = 32 + k; line < 9; line++) {
          const from = (((z + Math.floor(line / 3)) * side + y + line % 3) * side + x) * layer.in;
          for (let j = 0; j < run; j++, to += 4) numbers[to] = source[from + j];
        }
      }
      for (let panel = 0; panel < layer.out; panel += 8) {
        multiply(128, 128 + 16 * rows, 4 * (layer.at + panel * rows), 0);
        const to = first * layer.out + panel, last = 8 * Math.min(4, count - first);
        for (let i = 0; i < last; i++) found[to + (i >> 3) * layer.out + (i & 7)] = numbers[i];
      }
    }
    return found;
  }

  /* The largest of each 2^3. */
  function halved(features, n, channels) {
    const half = n >> 1, found = new Float32Array(half ** 3 * channels).fill(-Infinity);
    for (let z = 0; z < 2 * half; z++) for (let y = 0; y < 2 * half; y++) for (let x = 0; x < 2 * half; x++) {
      const from = ((z * n + y) * n + x) * channels, to = (((z >> 1) * half + (y >> 1)) * half + (x >> 1)) * channels;
      for (let channel = 0; channel < channels; channel++) {
        const value = features[from + channel];
        if (value > found[to + channel]) found[to + channel] = value;
      }
    }
    return found;
  }

  /* Bias and ReLU, in place. */
  function rectified(features, {out, bias}) {
    for (let from = 0; from < features.length; from += out) {
      for (let channel = 0; channel < out; channel++) {
        const value = features[from + channel] + bias[channel];
        features[from + channel] = value > 0 ? value : 0;
      }
    }
    return features;
  }

  /* The embedding of a volume, of length 1. */
  function embedded(volume) {
    const [widened, residual] = encoder.layers.slice(-2);
    let features = Float32Array.from(volume), n = box;
    for (const layer of encoder.layers.slice(0, -2)) {
      features = rectified(halved(convolved(features, n, layer), n, layer.out), layer);
      n >>= 1;
    }
    features = rectified(convolved(features, n, widened), widened);
    const beside = convolved(features, n, residual), sums = new Float64Array(residual.out);
    for (let i = 0; i < beside.length; i++) beside[i] += features[i];
    rectified(beside, residual).forEach((value, i) => { sums[i % residual.out] += value; });
    const length = Math.hypot(...sums);
    return sums.map(value => value / length);
  }

  /* What a worker is asked: how bright a particle is, or its embedding and picture. dark: whether protein is dark. */
  function answer({bytes, layout, look, dark}) {
    const volume = decoded(bytes, layout);
    let low = Infinity, high = -Infinity, sum = 0;
    for (let i = 0; i < volume.length; i++) {
      sum += volume[i];
      if (volume[i] < low) low = volume[i];
      if (volume[i] > high) high = volume[i];
    }
    if (!Number.isFinite(sum)) throw Error("voxels that are NaN or infinite; remove the file or extract it again");
    if (low === high) throw Error(`every voxel is ${low}; remove the file or extract it again`);
    if (look) return {extremes: extremes(resampled(volume, layout, Math.max(layout.voxelNm, layout.n * layout.voxelNm / box)))};
    const signed = dark ? volume : volume.map(value => -value);
    const prepared = resampled(signed, layout, encoder.voxel_size_nm), limited = bandLimited(prepared);
    return {embedding: embedded(limited), descriptors: descriptors(limited), grey: greyValues(signed, layout),
      picture: picture(prepared)};
  }

  return {decoded, resampled, bandLimited, extremes, embedded, answer};
}

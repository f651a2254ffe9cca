/* Particles in a numpy archive, by the rules of npz.py: `volumes` (n, b, b, b), `labels` (n,) and `voxel_size_nm`. What
   savez wrote is cut from the file where it lies; what savez_compressed wrote is unpacked first. */
"use strict";

const NPZ_NAME = /\.npz$/i;
const NO_LABEL = ["", "<NA>", "nan", "NaN", "None"];    // as in base.py
const NPZ_AGAIN = "write it with numpy.savez(path, volumes=..., labels=..., voxel_size_nm=...)";

/* As `particlesOf` of an MRC file; a particle of an archive with labels has its label. */
async function particlesOfArchive(file, path, given) {
  const members = await membersOf(file);
  if (!members.volumes) throw Error(`no array volumes in it; ${NPZ_AGAIN}`);
  const {shape: [count, n, ...rest], type, little, fortran, blob, start} = await arrayIn(members.volumes);
  if (rest.length !== 2 || rest.some(m => m !== n) || fortran) {
    throw Error(`volumes are not (n, box, box, box) in the order of C; ${NPZ_AGAIN}`);
  }
  if (!/^([iu][124]|f[248])$/.test(type)) throw Error(`volumes are ${type}, which is not read; ${NPZ_AGAIN}`);
  const bytes = Number(type[1]) * n ** 3;
  if (!count || blob.size < start + count * bytes) throw Error(`not all of its volumes are there; ${NPZ_AGAIN}`);
  const stated = members.voxel_size_nm && await valuesIn(members.voxel_size_nm);
  if (stated && stated.length !== 1) throw Error("voxel_size_nm is not one number; store one length in nm");
  const nm = agreedVoxelSize(stated ? Array(3).fill(stated[0]) : [NaN], given, n);
  const labels = members.labels && await valuesIn(members.labels);
  if (labels && labels.length !== count) throw Error(`${labels.length} labels for ${count} volumes; give one each`);
  const layout = {n, voxelNm: nm, type, little, order: [1, 2, 3]};
  return {remarks: [], particles: Array.from({length: count}, (_, i) => ({
    name: `${path}[${i}]`, blob, from: start + i * bytes, to: start + (i + 1) * bytes, layout, label: labels && labelFrom(labels[i]),
  }))};
}

/* A class as text; undefined where there is none. */
function labelFrom(value) {
  const text = String(value).normalize("NFC").trim().replace(/^(\d+)\.0+$/, "$1");
  return NO_LABEL.includes(text) ? undefined : text;
}

/* Blobs of the .npy files in a zip archive, by name; found by its directory, which stands at the end. */
async function membersOf(file) {
  const refuse = () => { throw Error(`not a whole npz; ${NPZ_AGAIN}`); };
  const from = Math.max(0, file.size - 65557), tail = new DataView(await file.slice(from).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) refuse();
  const [size, at] = [12, 16].map(offset => tail.getUint32(end + offset, true)), members = {};
  if (at === 0xffffffff) throw Error("an archive of more than 4 GB; use the command");
  const directory = new DataView(await file.slice(at, at + size).arrayBuffer());
  for (let i = 0; i + 46 <= directory.byteLength;) {
    const [method, packed, local] = [directory.getUint16(i + 10, true), directory.getUint32(i + 20, true), directory.getUint32(i + 42, true)];
    const [name, extra, comment] = [28, 30, 32].map(offset => directory.getUint16(i + offset, true));
    const key = new TextDecoder().decode(directory.buffer.slice(i + 46, i + 46 + name)).replace(/\.npy$/, "");
    if (packed === 0xffffffff) throw Error("an archive of more than 4 GB; use the command");
    const head = new DataView(await file.slice(local, local + 30).arrayBuffer());
    if (head.byteLength < 30 || ![0, 8].includes(method)) refuse();
    const start = local + 30 + head.getUint16(26, true) + head.getUint16(28, true), blob = file.slice(start, start + packed);
    members[key] = method ? await unpacked(blob, "deflate-raw") : blob;
    i += 46 + name + extra + comment;
  }
  return members;
}

/* Shape, type as f4, byte order, and where the values start in the blob, of one .npy file. */
async function arrayIn(blob) {
  const first = new DataView(await blob.slice(0, 12).arrayBuffer());
  if (first.byteLength < 12 || first.getUint32(0) !== 0x934e554d) throw Error(`not a whole npz; ${NPZ_AGAIN}`);
  const isShort = first.getUint8(6) === 1, header = isShort ? 10 : 12;
  const start = header + (isShort ? first.getUint16(8, true) : first.getUint32(8, true));
  const words = await blob.slice(header, start).text();
  const [, order, type] = words.match(/'descr': *'([<>|=])(\w+)'/) || [];
  if (!type) throw Error(`arrays that are not plain numbers or texts; ${NPZ_AGAIN}`);
  const shape = words.match(/'shape': *\(([^)]*)\)/)[1].split(",").filter(part => part.trim()).map(Number);
  return {shape, type, little: order !== ">", fortran: /'fortran_order': *True/.test(words), blob, start};
}

/* Numbers or texts of a small array. */
async function valuesIn(member) {
  const {shape, type, little, blob, start} = await arrayIn(member);
  const count = shape.reduce((product, n) => product * n, 1), kind = type[0], width = Number(type.slice(1));
  const view = new DataView(await blob.slice(start).arrayBuffer()), bytes = kind === "U" ? 4 * width : width;
  const get = {i1: "getInt8", u1: "getUint8", i2: "getInt16", u2: "getUint16", i4: "getInt32", u4: "getUint32",
    i8: "getBigInt64", u8: "getBigUint64", f4: "getFloat32", f8: "getFloat64"}[type];
  if (!get && kind !== "U" && kind !== "S") throw Error(`labels or voxel_size_nm are ${type}, which is not read; ${NPZ_AGAIN}`);
  return Array.from({length: count}, (_, i) => {
    if (get) return Number(view[get](i * bytes, little));
    const codes = Array.from({length: width}, (_, j) =>
      kind === "U" ? view.getUint32(i * bytes + 4 * j, little) : view.getUint8(i * bytes + j));
    return String.fromCodePoint(...codes).replace(/\0+$/, "");
  });
}

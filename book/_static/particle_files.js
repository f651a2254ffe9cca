/* Where particles lie in the MRC files that a reader drops, and as what: the rules of mrc.py and headers.py. Only headers
   are read here; volumes.js decodes the rest by the `layout`. */
"use strict";

const MRC_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"};
const MRC_NAME = /\.(mrc|mrcs|map|rec)(\.gz)?$/i;
const NO_PARTICLE =    // as in listings.py
  /((^|[_.-])(ctf(\d|3d)?(?![_.-]?(corr|flip|phase|premult|mult|deconv))|weights?|mask|wedge)|[_.-]half[_-]?[12])(?=$|[_.-])/i;
const WRITE_AGAIN = "write it again as one volume of mode 2 (float32)";

/* {particles, remarks} of a file: of each particle its name, blob, bytes from..to in it, and layout. Throws an Error that
   says what is wrong with the file. given: nm, the voxel size that the reader states, whatever headers say. */
async function particlesOf(file, path, given) {
  const blob = /\.gz$/i.test(path) ? await unpacked(file, "gzip") : file;
  const head = new DataView(await blob.slice(0, 1024).arrayBuffer());
  const refuse = said => { throw Error(`${said}; ${WRITE_AGAIN}`); };
  if (head.byteLength < 1024) refuse(`not a whole MRC file (${blob.size} bytes)`);
  const stamp = head.getUint8(212), isMap = [77, 65, 80].every((letter, i) => head.getUint8(208 + i) === letter);
  const isOld = !isMap || head.getUint32(212) === 0;
  // A file of old has no machine stamp: its byte order is the one in which its mode is a mode.
  const little = stamp === 0x44 || (stamp !== 0x11 && head.getInt32(12, true) in MRC_TYPES);
  const int = word => head.getInt32(4 * word, little), float = word => head.getFloat32(4 * word, little);
  const [nx, ny, nz, mode] = [0, 1, 2, 3].map(int), mz = int(9), group = int(22), start = 1024 + int(23);
  if (mode === 4) refuse("complex numbers (mode 4), a Fourier transform");
  if (!(mode in MRC_TYPES)) refuse(`mode ${mode} in its header, which is not read`);
  const imod = int(38) === 1146047817, flags = int(39), remarks = [];
  if (imod && mode === 0 && flags & 16) refuse("two values of four bits in each byte, as IMOD's header says");
  const size = Number(MRC_TYPES[mode][1]), whole = start + size * nx * ny * nz;
  if (Math.min(nx, ny, nz) < 1 || (isOld ? blob.size !== whole : blob.size < whole)) {
    refuse(`not a whole MRC file (${whole} bytes by its header, ${blob.size} in all)`);
  }
  if (isOld) remarks.push("no map ID or machine stamp in its header; read as the MRC file that its size fits");
  if (blob.size > whole) remarks.push("more bytes than its header counts, which are not read");
  if ([13, 14, 15].map(float).some(angle => angle !== 0 && !(Math.abs(angle - 90) < 0.1))) refuse("axes not at right angles (cellb)");
  let order = [16, 17, 18].map(int);
  if (order.every(along => along === 0)) order = [1, 2, 3];
  if ([...order].sort().join() !== "1,2,3") refuse(`axes mapc, mapr, maps ${order.join(", ")} in its header`);
  if (order.join() !== "1,2,3") remarks.push("axes turned to the order x, y, z, as its header says (mapc, mapr, maps)");
  const isStack = group >= 401 && group <= 630, depth = isStack ? mz : nz;
  if (isStack && (mz < 1 || nz % mz)) refuse(`a stack of volumes of ${mz} sections (mz), but ${nz} sections in all (nz)`);
  const isImages = group === 0 && mz === 1 && nz > 1;
  if (nx !== ny || ny !== depth || isImages) {
    const kind = isImages ? "a stack of images by its header (ispg 0, mz 1)" : "not a cube";
    throw Error(`${depth} x ${ny} x ${nx} voxels, ${kind}; cut 3D subtomograms with a cubic box`);
  }
  if (nx < 4) throw Error(`box of ${nx} voxels; cut at least 4`);
  if (group % 400 > 1) remarks.push(`space group ${group % 400} in its header (ispg), whose symmetry is not applied`);
  // Sections of an image stack have no thickness, even where the stack is a volume in truth.
  const sizes = [0, 1, 2].filter(k => group || k !== order[2] - 1).map(k => float(10 + k) / int(7 + k) / 10);
  const type = mode ? MRC_TYPES[mode] : typeOfBytes([19, 20, 21].map(float), imod, flags, remarks);
  const layout = {n: nx, voxelNm: agreedVoxelSize(sizes, given, nx), type, little, order}, bytes = size * nx ** 3;
  const particles = Array.from({length: nz / depth}, (_, i) => ({
    name: isStack ? `${i + 1}@${path}` : path, blob, from: start + i * bytes, to: start + (i + 1) * bytes, layout,
  }));
  return {particles, remarks};
}

async function unpacked(file, format) {
  try {
    return await new Response(file.stream().pipeThrough(new DecompressionStream(format))).blob();
  } catch {
    throw Error("cannot be unpacked; pack it again");
  }
}

/* nm; throws an Error where the header states no likely one and none is given. */
function agreedVoxelSize(sizes, given, n) {
  const known = sizes.every(nm => Number.isFinite(nm) && nm > 0), nm = sizes[0], enter = "enter the voxel size above";
  if (known && Math.max(...sizes) - Math.min(...sizes) > 1e-3 * Math.max(...sizes)) {
    throw Error(`voxels of ${sizes.map(size => size.toPrecision(4)).join(" x ")} nm; resample it to cubic voxels`);
  }
  if (given) {
    if (given < 0.0999 || given >= 10) throw Error(`voxel size ${given} nm, not between 0.1 and 10 nm; 8 A are 0.8 nm`);
    return given;
  }
  if (!known) throw Error(`its header states no voxel size; ${enter}`);
  if (nm < 0.0999 || nm >= 10) throw Error(`voxel size ${nm.toPrecision(4)} nm, not between 0.1 and 10 nm; ${enter}`);
  if (Math.abs(nm / 0.1 - 1) < 1e-4 && n * nm < 30) {
    throw Error(`voxel size 1.000 A, which programs write when they do not know it; ${enter}, 0.1 if that is right`);
  }
  return nm;
}

/* Bytes as signed or unsigned, whichever the header means by its minimum, maximum and mean or by IMOD's flag. */
function typeOfBytes([lowest, highest, mean], imod, flags, remarks) {
  const known = lowest < highest;
  if (known && lowest < 0) return "i1";
  if (imod ? !(flags & 1) : Math.max(highest, mean) > 127) {
    remarks.push("bytes read as unsigned, as its header says");
    return "u1";
  }
  if (!imod && !known) remarks.push("bytes read as signed, as MRC 2014 has it, because the header does not say");
  return "i1";
}

/* Files [{file, path}] of what was dropped, with those in folders. */
async function filesOf(transfer) {
  const files = [];
  const walk = async entry => {
    if (entry.isFile) {
      files.push({file: await new Promise((done, failed) => entry.file(done, failed)), path: entry.fullPath.slice(1)});
      return;
    }
    const reader = entry.createReader();
    for (let part; (part = await new Promise((done, failed) => reader.readEntries(done, failed))).length;) {
      for (const inside of part) await walk(inside);
    }
  };
  for (const entry of [...transfer.items].map(item => item.webkitGetAsEntry())) if (entry) await walk(entry);
  return files;
}

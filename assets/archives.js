// Read files of a ZIP archive in the browser: one after another, and never more of them than is allowed.
(() => {
  const LOCAL = 0x04034b50, ENTRY = 0x02014b50, END = 0x06054b50, TAIL = 22 + 65_535, LISTED = 2 ** 26, IN_64_BITS = 0xffffffff;
  const part = async (file, start, length) => new DataView(await file.slice(start, start + length).arrayBuffer());
  const text = (view, start, length) => new TextDecoder().decode(new Uint8Array(view.buffer, start, length));

  // The entries of the list at the archive's end.
  const entries = async (file) => {
    const tail = await part(file, Math.max(0, file.size - TAIL), TAIL), found = [];
    let end = tail.byteLength - 22;
    while (end >= 0 && tail.getUint32(end, true) !== END) end--;
    if (end < 0) throw new SyntaxError();
    const length = tail.getUint32(end + 12, true), start = tail.getUint32(end + 16, true);
    if (start === IN_64_BITS || length > LISTED) throw new RangeError();
    const list = await part(file, start, length);
    for (let at = 0; at + 46 <= list.byteLength && list.getUint32(at, true) === ENTRY;) {
      const [named, extra, comment] = [28, 30, 32].map((place) => list.getUint16(at + place, true));
      found.push({
        name: text(list, at + 46, named), method: list.getUint16(at + 10, true),
        packed: list.getUint32(at + 20, true), start: list.getUint32(at + 42, true),
      });
      at += 46 + named + extra + comment;
    }
    return found;
  };

  // What is allowed is counted as it is unpacked: what an archive says of itself may be wrong.
  const unpacked = async (file, {method, packed, start}, most) => {
    const head = await part(file, start, 30);
    if (head.getUint32(0, true) !== LOCAL || ![0, 8].includes(method)) throw new SyntaxError();
    const begin = start + 30 + head.getUint16(26, true) + head.getUint16(28, true);
    const stored = file.slice(begin, begin + packed).stream();
    const reader = (method ? stored.pipeThrough(new DecompressionStream("deflate-raw")) : stored).getReader();
    const parts = [];
    let size = 0;
    for (let next; !(next = await reader.read()).done; parts.push(next.value))
      if ((size += next.value.length) > most) throw new RangeError();
    return {content: await new Blob(parts).text(), size};
  };

  window.studio.archives = {
    async isArchive(file) {
      return file.size > 22 && (await part(file, 0, 4)).getUint32(0, true) === LOCAL;
    },
    // The texts of the files whose names fit, `most` bytes together. Throws RangeError, or SyntaxError for no archive.
    async texts(file, wanted, most) {
      const found = [];
      let left = most;
      for (const entry of (await entries(file)).filter(({name}) => wanted.test(name))) {
        const {content, size} = await unpacked(file, entry, left);
        left -= size;
        found.push(content);
      }
      return found;
    },
  };
})();

// Masks on their way: packed by zlib, and in base64 inside JSON.

async function through(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

/** The bytes that the daemon packed; null stays null. */
export async function unpack(text) {
  if (text === null) return null;
  return through(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), new DecompressionStream("deflate"));
}

/** Bytes as the daemon takes them. */
export async function pack(bytes) {
  const packed = await through(bytes, new CompressionStream("deflate"));
  let text = "";
  for (let i = 0; i < packed.length; i += 0x8000) text += String.fromCharCode(...packed.subarray(i, i + 0x8000));
  return btoa(text);
}

// Bytes and digests as text that may stand anywhere.

/**
 * 22 characters of base64url: 132 bits of the text's SHA-256. Browsers compute it on pages on https
 * and localhost only.
 * @param {string} text
 */
export async function fingerprint(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return base64url(new Uint8Array(digest)).slice(0, 22);
}

/** @param {Uint8Array} bytes  RFC 4648 §5; how many bytes there are decides on the padding */
export function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_");
}

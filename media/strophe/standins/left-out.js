// A part of Strophe that no session of ours comes to, by all the names that it is imported by.

export default function leftOut() {
  throw new Error("This part of Strophe is left out of the bundle; see strophe.js beside build.js");
}

export {
  leftOut as isCountableStanza,
  leftOut as SessionStorageBackend,
  leftOut as StreamManagementMirror,
  leftOut as toStanzaView,
};

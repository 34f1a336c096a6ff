// Strophe's index: what our sources use of it, and no globals, of which Strophe's own defines seven.

import Connection from "strophe.js/src/connection";
import { ErrorCondition, LOG_LEVELS, Status } from "strophe.js/src/constants";
import * as log from "strophe.js/src/log";
import SASLMechanism from "strophe.js/src/sasl";
import SASLPlain from "strophe.js/src/sasl-plain";
import SASLSHA1 from "strophe.js/src/sasl-sha1";
import SASLSHA256 from "strophe.js/src/sasl-sha256";
import SASLSHA384 from "strophe.js/src/sasl-sha384";
import SASLSHA512 from "strophe.js/src/sasl-sha512";
import WorkerWebsocket from "strophe.js/src/transports/worker-websocket";
import { getDomainFromJid } from "strophe.js/src/utils";

export const Strophe = {
  Connection,
  ErrorCondition,
  LogLevel: LOG_LEVELS,
  SASLMechanism,
  SASLPlain,
  SASLSHA1,
  SASLSHA256,
  SASLSHA384,
  SASLSHA512,
  Status,
  WorkerWebsocket,
  getDomainFromJid,
  setLogLevel: log.setLogLevel,
};

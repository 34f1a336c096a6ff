// The classic script: defines the global PubSubClient, and nothing else.

import { PubSubClient } from "./client.js";

Object.assign(window, { PubSubClient });

// What tsc finds nowhere else: what the build puts in, and what Strophe's own types call private.

/** A hash of the worker's script. */
declare const WORKER_BUILD: string;

declare module "strophe.js/src/shared-connection-worker" {
  interface PortInfo {
    role: "primary" | "secondary";
    lastSeen: number;
  }

  export const PORT_GC_TIMEOUT: number;
  export const PRIMARY_TIMEOUT: number;

  /** The worker's side. What is called by name comes from a page, or from a socket. */
  export default class ConnectionManager {
    /** Those who share the stream, or wait for it. */
    ports: Map<MessagePort, PortInfo>;
    jid: string;
    socket: WebSocket | null;
    session: "none" | "connecting" | "established";
    _graceTimer: ReturnType<typeof setTimeout> | null;
    addPort(port: MessagePort): void;
    _onPortMessage(port: MessagePort, event: MessageEvent): void;
    _connect(port: MessagePort, service: string, jid: string, version?: number): void;
    _bye(port: MessagePort): void;
    _closeSocket(port?: MessagePort): void;
    _onError(): void;
    _socketLive(): boolean;
    _startGrace(): void;
    _sweep(): void;
    _post(port: MessagePort, ...message: unknown[]): void;
    _broadcast(...message: unknown[]): void;
  }
}

/** What Strophe's transports by WebSocket have in common. */
declare interface StropheWebsocket {
  _onMessage(message: MessageEvent): void;
  _streamWrap(stanza: string): string;
}

/** The page's side: Strophe.WorkerWebsocket. What the worker posts names one of its methods. */
declare class StropheWorkerWebsocket {
  constructor(connection: object);
  worker: SharedWorker | undefined;
  _onMessage(message: MessageEvent): void;
  _streamWrap(stanza: string): string;
  _initWorker(): void;
  _attachLifecycleListeners(): void;
  _connect(): void;
  _onWorkerMessage(event: MessageEvent): void;
  _attachCallback(status: number, jid?: string): void;
  _replaceMessageHandler(): void;
  _closeSocket(): void;
}

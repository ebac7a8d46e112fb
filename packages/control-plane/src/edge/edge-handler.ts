import { type HttpExchange, type HttpUpgrade, type Logger, RequestsUnderWay } from '@nestbox/kit';
import { answerError, edgeErrorOnWire, edgeFailure } from './edge-error.ts';
import { type EdgeDirectory, type EdgeRequest, type Resolution, readAddress, resolveTarget } from './resolve-target.ts';

/** The way into sandboxes, whatever listener a request came by. Never throws: what goes wrong is answered. */
export class EdgeHandler {
  readonly requests = new RequestsUnderWay();
  readonly #directory: EdgeDirectory;
  readonly #logger: Logger;

  constructor(directory: EdgeDirectory, logger: Logger) {
    this.#directory = directory;
    this.#logger = logger;
  }

  handle(exchange: HttpExchange): void {
    const { answer } = exchange;
    this.requests.track(answer.stream);
    if (this.requests.isEnding) answer.closeAfterwards();
    void this.#resolve(exchange, (resolution) => {
      if (answer.closed) return;
      if ('error' in resolution) answerError(exchange, resolution.error);
      else resolution.proxy.handle(exchange, resolution.order);
    });
  }

  handleUpgrade(upgrade: HttpUpgrade): void {
    const { socket } = upgrade;
    // Until it is forwarded, nobody else listens for this.
    socket.on('error', () => socket.destroy());
    void this.#resolve(upgrade, (resolution) => {
      if (socket.destroyed) return;
      if ('error' in resolution) socket.end(edgeErrorOnWire(resolution.error));
      else resolution.proxy.handleUpgrade(upgrade, resolution.order);
    });
  }

  async #resolve(request: EdgeRequest, proceed: (resolution: Resolution) => void): Promise<void> {
    try {
      proceed(await resolveTarget(this.#directory, request));
    } catch (err) {
      const error = edgeFailure(err);
      // What is told apart is told by others too, and requests may come by the thousand.
      this.#logger[error.status === 500 ? 'error' : 'debug'](
        { err, ...readAddress(request.headers) },
        'The edge failed to serve a request',
      );
      proceed({ error });
    }
  }
}

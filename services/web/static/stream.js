// Hears from the server when the page may have changed. One stream at a time; where none can be had, the page asks by itself.

const TRY_AGAIN_MS = 60_000; // after the server has refused a stream

let stream = null;
let address = ""; // of the stream that is open, or was refused
let again = null;

export const isStreaming = () => stream?.readyState === EventSource.OPEN;

/** Listen at an address, or nowhere where it is empty; `changed` is called for each event. */
export function listenTo(wanted, changed) {
  if (wanted === address) return;
  stop();
  address = wanted;
  if (wanted) open(changed);
}

function open(changed) {
  stream = new EventSource(address);
  for (const name of ["change", "job"]) stream.addEventListener(name, changed);
  stream.addEventListener("end", () => { stream.close(); changed(); });
  stream.addEventListener("error", () => {
    changed(); // the page says so where the server is away
    // The browser tries again by itself unless the server has answered with something else than a stream.
    if (stream.readyState !== EventSource.CLOSED) return;
    clearTimeout(again);
    again = setTimeout(() => open(changed), TRY_AGAIN_MS);
  });
}

function stop() {
  clearTimeout(again);
  stream?.close();
  [stream, address] = [null, ""];
}

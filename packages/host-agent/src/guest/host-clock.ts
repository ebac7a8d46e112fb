/** The host's wall clock in microseconds of Unix time. Node shows it to the millisecond only. */
export function hostTimeUs(): number {
  const microseconds = Math.round((performance.timeOrigin + performance.now()) * 1000);
  // performance.now() does not follow a clock that was set; then the coarser clock is the right one.
  const drifted = Math.abs(microseconds / 1000 - Date.now()) > 2;
  return drifted ? Date.now() * 1000 : microseconds;
}

/** RFC 3339 with nanoseconds, UTC. */
export function timestampNow(): string {
  const microseconds = hostTimeUs();
  const seconds = new Date(Math.floor(microseconds / 1_000_000) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String((microseconds % 1_000_000) * 1000).padStart(9, '0')}Z`;
}

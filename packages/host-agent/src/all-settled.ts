/** All steps end before one's failure is told, so that nothing is made any more while an undo runs. */
export async function allSettled<T extends readonly unknown[]>(
  steps: readonly [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T>;
export async function allSettled(steps: readonly Promise<unknown>[]): Promise<unknown[]> {
  const results = await Promise.allSettled(steps);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

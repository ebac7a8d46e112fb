/** What the first bytes of a connection say of where it wants to go. */
export type Sniffed =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'named'; readonly protocol: 'tls'; readonly name: string }
  /** `head` takes the place of the first `headBytes` of what was read. */
  | {
      readonly kind: 'named';
      readonly protocol: 'http';
      readonly name: string;
      readonly head: Buffer;
      readonly headBytes: number;
    }
  | { readonly kind: 'refused'; readonly why: string; readonly name?: string | undefined };

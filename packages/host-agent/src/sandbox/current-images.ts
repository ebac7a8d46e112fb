import { readFile } from 'node:fs/promises';
import { NestboxError } from '@nestbox/contract';
import { type CurrentImages, currentImages } from '../storage/images-file.ts';
import type { HostLayout } from '../storage/layout.ts';

/** What new VMs boot. Read each time: set-up is another process. Throws NestboxError not_set_up. */
export async function readCurrentImages(layout: HostLayout): Promise<CurrentImages> {
  let text: string;
  try {
    text = await readFile(layout.currentImages, 'utf8');
  } catch (cause) {
    throw new NestboxError('not_set_up', 'This host has no images to boot yet. Run: nestbox setup', { cause });
  }
  try {
    return currentImages.parse(JSON.parse(text));
  } catch (cause) {
    throw new NestboxError('not_set_up', `${layout.currentImages} is damaged. Run: nestbox setup --force`, { cause });
  }
}

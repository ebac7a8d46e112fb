/** For `node --import`: names below the domain in E2B_DOMAIN lead to this machine. */
import { leadNamesHere } from './local-names.ts';

leadNamesHere(process.env.E2B_DOMAIN ?? '');

/**
 * For `node --import`: names below the domain in E2B_DOMAIN lead to this machine, as the operator's DNS records would have it.
 * (The C library of a minimal Debian does not know what `*.localhost` means.)
 */
const dns = process.getBuiltinModule('node:dns');
const { lookup } = dns;
const suffix = `.${(process.env.E2B_DOMAIN ?? '').replace(/:[0-9]+$/, '')}`;

dns.lookup = (name, options, callback) => {
  if (!name.endsWith(suffix)) return lookup(name, options, callback);
  const [settings, done] = typeof options === 'function' ? [{}, options] : [options, callback];
  if (settings?.all) process.nextTick(done, null, [{ address: '127.0.0.1', family: 4 }]);
  else process.nextTick(done, null, '127.0.0.1', 4);
};

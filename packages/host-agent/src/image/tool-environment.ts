/** English messages, which we read, and the folders where Debian keeps these tools whoever calls us. */
export function toolEnvironment(): NodeJS.ProcessEnv {
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' };
}

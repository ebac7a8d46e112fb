#!/bin/busybox sh
# First program of the guest in tests of the driver: does what the kernel's command line says (nestbox-test=…).
mount -t devtmpfs dev /dev
mount -t proc proc /proc
read -r arguments </proc/cmdline
mode=idle
for word in $arguments; do
  case "$word" in nestbox-test=*) mode="${word#nestbox-test=}" ;; esac
done

[ "$mode" = silent ] && exec sleep 1000000
# The end of the first program is a kernel panic.
[ "$mode" = panic ] && exit 3
echo 'nestbox: initrd'

load_drivers() {
  . /modules.sh
  for module in $TRANSPORT_COMMON $TRANSPORT_PCI $DRIVERS; do insmod "/modules/$module.ko"; done
}

case "$mode" in
  # After a while, so that the driver has returned from its start.
  reboot) sleep 3 && busybox reboot -f ;;
  poweroff) sleep 3 && busybox poweroff -f ;;
  count)
    # Goes on counting wherever it is restored; each number is on the disk when it is on the console.
    load_drivers
    number=0
    while :; do
      number=$((number + 1))
      echo "$number" | busybox dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null
      read -r stored </dev/vda
      echo "test: $number $stored"
      busybox sleep 0.1
    done
    ;;
  flood) while :; do echo 'a line with which the guest means to fill the disk of its host'; done ;;
  write)
    load_drivers
    mount -t tmpfs none /newroot
    busybox dd if=/dev/urandom of=/newroot/data bs=64k count=128 2>/dev/null
    busybox dd if=/newroot/data of=/dev/vda bs=64k conv=fsync 2>/dev/null && echo "test: written"
    echo 3 >/proc/sys/vm/drop_caches
    busybox dd if=/dev/vda bs=64k count=128 2>/dev/null | busybox cmp - /newroot/data && echo "test: the same"
    ;;
esac
exec sleep 1000000

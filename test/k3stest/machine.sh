# Turns the namespaces that it is started in into a machine with a disk of its own,
# the working directory, and runs the command of $COMMAND there. All that is written
# elsewhere goes when the last process does.
set -e
mount --make-rprivate /
mount -t proc proc /proc
echo "$NODE" > /proc/sys/kernel/hostname
mount -t tmpfs machine /run
for dir in /etc /var/lib /var/log; do
	mkdir -p "/run/machine$dir/upper" "/run/machine$dir/work"
	mount -t overlay machine "$dir" -o "lowerdir=$dir,upperdir=/run/machine$dir/upper,workdir=/run/machine$dir/work"
done
for dir in /etc/rancher /var/lib/rancher /var/lib/kubelet; do
	mkdir -p "$dir" ".$dir"
	mount --bind ".$dir" "$dir"
done
# A kubelet sets these for the whole machine.
for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	mkdir -p "/run/machine/${key%/*}"
	cp "/proc/sys/$key" "/run/machine/$key"
	mount --bind "/run/machine/$key" "/proc/sys/$key"
done
# Names are those of the file hosts, and others are refused at once.
echo "nameserver 127.0.0.1" > /etc/resolv.conf
[ ! -s hosts ] || cp hosts /etc/hosts
mkdir -p /etc/cni/net.d
[ ! -f cni.conflist ] || cp cni.conflist /etc/cni/net.d/
if [ "$RUNTIME" = true ]; then
	containerd --config /dev/null > containerd.log 2>&1 &
fi
# Not exec: K3s as the first process of a PID namespace moves cgroups about.
sh -c "$COMMAND"
exit

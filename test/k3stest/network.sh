# Makes a network of hosts, and keeps it until it is killed. Each host is a network
# namespace; one more has the bridge that joins them, out of reach of the machine's
# packet filter, which often drops forwarded packets. The namespaces have names in
# this process's own mount namespace alone, so that they go when it ends, and the
# interfaces with them. K3s does not start without a default route.
set -e
own=$1 net4=$2 net6=$3 hosts=$4
if ip route show "$net4.0/24" | grep -q .; then
	echo "$net4.0/24 is in use" >&2
	exit 1
fi
mount --make-rprivate /
mount -t tmpfs network /run
ip netns add bridge
ip -n bridge link add br0 up type bridge
ip link add "$own" type veth peer name up0 netns bridge
ip -n bridge link set up0 up master br0
ip address add "$net4.1/24" dev "$own"
ip address add "$net6::1/64" dev "$own" nodad || true # not every machine has IPv6
ip link set "$own" up
for i in $(seq "$hosts"); do
	ip netns add "s$i"
	ip -n bridge link add "s$i" up master br0 type veth peer name eth0 netns "s$i"
	ip -n "s$i" address add "$net4.$((i + 1))/24" dev eth0
	ip -n "s$i" address add "$net6::$((i + 1))/64" dev eth0 nodad || true
	ip -n "s$i" link set eth0 up
	ip -n "s$i" link set lo up
	ip -n "s$i" route add default via "$net4.1"
done
echo up
exec sleep infinity

# The process that keeps one test host's namespaces alive, and its janitor. Run by host.rs as
#   unshare -m -u -n -- bash -c THIS NAME DIR
# Standard input is a pipe held by the test program. Its end of file (Drop, or the test program's death) ends the host:
# every process in this network namespace is killed by pid; mounts and interfaces go with the namespaces.
set -eu
name=$0 dir=$1
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up
# Private account and name files; no resolver, so that no program ever asks the network.
for file in passwd group hosts resolv.conf mailname; do
    [ -e "/etc/$file" ] || continue
    mount --bind "$dir/etc/$file" "/etc/$file"
done
# The machine's own spool is out of reach, even of a misconfigured program.
[ ! -d /var/mail ] || mount --bind "$dir/no-mail-here" /var/mail
echo ready
cat >/dev/null || :

# A pipe that never has anything to read: the pause between two rounds.
exec {idle}<> <(:)
for _ in {1..200}; do
    left=
    for ns in /proc/[0-9]*/ns/net; do
        pid=${ns#/proc/}
        pid=${pid%%/*}
        [ "$pid" != $$ ] && [ "$ns" -ef /proc/$$/ns/net ] || continue
        left=yes
        kill -9 "$pid" 2>/dev/null || :
    done
    [ "$left" ] || exit 0
    read -rt 0.05 -u "$idle" _ || :
done
echo "host $name: a process would not die" >&2
exit 1

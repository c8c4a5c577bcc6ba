#!/usr/bin/env bash
# The README's evening, in namespaces of its own: this machine's /etc, /var, /run and network are not touched.
# Called by evening.rs: evening.sh DIR TREE BINARY STEP... Each STEP is a file of commands from the README, in their order. What is
# seen goes to DIR/seen. DIR must be empty, and outside of /etc, /run, /var and /usr.
set -euo pipefail
dir=$1 tree=$2 binary=$3
shift 3
seen=$dir/seen
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

# A copy in memory in place of a directory.
own() {
    mkdir -p "$dir/own$1"
    cp -a "$1/." "$dir/own$1/"
    mount --bind "$dir/own$1" "$1"
}
mkdir "$seen" "$dir/own"
mount -t tmpfs none "$dir/own"
for path in /etc /var/spool /var/mail /var/lib/postfix /var/log /usr/local/sbin; do own "$path"; done
# Without /run/systemd, `service` starts what is in /etc/init.d, here and not outside.
mount -t tmpfs none /run
ip link set lo up
ip address add 192.0.2.25/24 dev lo
ip address add 203.0.113.77/32 dev lo

# Waits for a command to succeed, 15 s at most.
wait_for() {
    local tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 750 ]; then echo "never: $*" >&2; cat /var/log/postfix.log /var/log/postern.log >&2 || true; exit 1; fi
        sleep 0.02
    done
}
listens() { ss -ltnH "sport = :$1" | grep -q .; }
free() { ! listens "$1"; }

# Debian's Postfix, as its installer sets up an "Internet Site".
cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf
cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
echo 'postmaster: root' >/etc/aliases
postconf -e myhostname=mx.here.example 'mydestination = $myhostname, here.example, localhost' 'alias_maps = hash:/etc/aliases' \
    'mynetworks = 127.0.0.0/8' mailbox_size_limit=0 inet_interfaces=all inet_protocols=ipv4 compatibility_level=3.6 \
    maillog_file=/var/log/postfix.log
newaliases
if id postern; then userdel postern; fi >/dev/null 2>&1
rm -rf /etc/postern /etc/xinetd.d/*
useradd -M alice
useradd -M stranger
install -m 755 "$binary" /usr/local/sbin/postern
postfix start >/dev/null 2>&1
wait_for listens 25
cd "$tree"

# Sends the message to a port, as a client with an address of its own. The dialog goes to NAME.dialog.
send() {
    local name=$1 port=$2
    sed "s/(NAME)/$name/" "$dir/message" >"$dir/$name.message"
    swaks --server "192.0.2.25:$port" --local-interface 203.0.113.77 --helo client.example -f a@client.example \
        -t alice@here.example --data "@$dir/$name.message" >"$seen/$name.dialog" 2>&1 || true
}
# Waits until the message has gone through Postfix; keeps the mailbox as NAME.mailbox and the id in Postfix's log as NAME.id.
arrived() {
    local name=$1
    wait_for grep -q "message-id=<$name@client.example>" /var/log/postfix.log
    sed -n "s/.*cleanup\[[0-9]*\]: \([^:]*\): message-id=<$name@client.example>/\1/p" /var/log/postfix.log >"$seen/$name.id"
    wait_for grep -q "$(cat "$seen/$name.id"): removed" /var/log/postfix.log
    mv /var/mail/alice "$seen/$name.mailbox"
}
check() { postern check --user "$2" >"$seen/$1.check" 2>&1 || echo "exit $?" >>"$seen/$1.check"; }
# The n-th step of the README.
step() { sh -eux "${steps[$1]}" >"$seen/step$1" 2>&1 || { cat "$seen/step$1" >&2; exit 1; }; }
steps=("$@")

step 0
echo logging/file /var/log/postern.log >/etc/postern/logging
install -o postern /dev/null /var/log/postern.log
check good postern

# The same service twice more: without the user's groups, and with postdrop as its only one.
sed 's/port .*=.*/port = 2501/; s/service postern/&-trap/; /groups  /d' examples/xinetd.conf >/etc/xinetd.d/postern-trap
sed 's/port .*=.*/port = 2502/; s/service postern/&-group/; s/groups  .*/group = postdrop/' examples/xinetd.conf >/etc/xinetd.d/postern-group
step 1
for port in 25 2501 2502; do wait_for listens "$port"; done
# The README's own mail; it comes from here.
step 2
wait_for grep -q 'status=sent' /var/log/postfix.log
wait_for test -s /var/mail/alice
rm /var/mail/alice
# To be quick from here on.
sed -i 's/^#wait = 1.0$/wait = 0/' /etc/postern/plugins.d/earlytalker.toml
step 3
send cleanup 25
arrived cleanup
send trap 2501
send group 2502
arrived group
step 4
send postdrop 25
arrived postdrop
send postdrop-trap 2501
arrived postdrop-trap

# What check says of a postdrop, and of a socket, that cannot work.
cp -p /usr/sbin/postdrop "$dir/own/postdrop"
mount --bind "$dir/own/postdrop" /usr/sbin/postdrop
chmod g-s /usr/sbin/postdrop
check no-setgid postern
umount /usr/sbin/postdrop
sed -i 's|^queue/.*|queue/postfix-queue|' /etc/postern/plugins
echo '#' >/etc/postern/logging
check no-rights stranger
postfix stop >/dev/null 2>&1
check nobody-listens postern
rm /var/spool/postfix/public/cleanup
check no-socket postern
postfix start >/dev/null 2>&1

rm /etc/xinetd.d/postern-*
# Its lines one by one: master dies of a port that is not free yet.
while read -r line; do
    sh -euxc "$line" >>"$seen/step5" 2>&1
    wait_for free 25
done < <(head -n -1 "${steps[5]}")
sh -euxc "$(tail -n 1 "${steps[5]}")" >>"$seen/step5" 2>&1
wait_for listens 25
send back 25
arrived back
cp /var/log/postfix.log /var/log/postern.log "$seen/"
service xinetd stop >/dev/null
postfix stop >/dev/null 2>&1

//! The configuration files of a test host's Postfix and Dovecot, as MAIL.md 3.9 wants them on a cluster volume.

use std::path::Path;

use super::host::Host;

/// The domain that both hosts take mail for.
pub(crate) const DOMAIN: &str = "mail.test";

/// The password of every test user.
pub(crate) const PASSWORD: &str = "secret";

/// Postfix's main.cf. `dir` holds its queue, data and log.
///
/// Bounces stay bounces (no `soft_bounce`): an error that the filesystem should never have answered must be seen.
/// `mail_spool_directory` ends without a slash; with one Postfix would make maildirs.
/// All interfaces: Postfix refuses to work with the address of one that is down.
pub(crate) fn postfix_main(host: &Host, dir: &Path, spool: &Path) -> String {
    let (dir, spool, name) = (dir.display(), spool.display(), host.name());
    format!(
        "compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/maillog
maillog_file_prefixes = {dir}
myhostname = {name}.{DOMAIN}
mydomain = {DOMAIN}
myorigin = {DOMAIN}
mydestination = {DOMAIN}, {name}.{DOMAIN}, localhost
inet_interfaces = all
inet_protocols = ipv4
mynetworks = 127.0.0.0/8, 10.77.0.0/16
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = none
smtp_tls_security_level = none
alias_maps =
alias_database =
local_recipient_maps = unix:passwd.byname
forward_path =
biff = no
mailbox_command =
mailbox_transport =
home_mailbox =
mail_spool_directory = {spool}
mailbox_delivery_lock = fcntl, dotlock
mailbox_size_limit = 0
in_flow_delay = 0
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 4s
transport_retry_time = 2s
"
    )
}

/// Postfix's master.cf: what SMTP in, sendmail(1) and local delivery need, nothing chrooted. No queue run on start is
/// needed: pickup and qmgr are woken by whoever hands in a message.
pub(crate) const POSTFIX_MASTER: &str = "\
smtp      inet  n  -  n  -  -  smtpd
pickup    unix  n  -  n  5  1  pickup
cleanup   unix  n  -  n  -  0  cleanup
qmgr      unix  n  -  n  5  1  qmgr
rewrite   unix  -  -  n  -  -  trivial-rewrite
bounce    unix  -  -  n  -  0  bounce
defer     unix  -  -  n  -  0  bounce
trace     unix  -  -  n  -  0  bounce
verify    unix  -  -  n  -  1  verify
flush     unix  n  -  n  1000?  0  flush
proxymap  unix  -  -  n  -  -  proxymap
smtp      unix  -  -  n  -  -  smtp
relay     unix  -  -  n  -  -  smtp
showq     unix  n  -  n  -  -  showq
error     unix  -  -  n  -  -  error
retry     unix  -  -  n  -  -  error
discard   unix  -  -  n  -  -  discard
local     unix  -  n  n  -  -  local
anvil     unix  -  -  n  -  1  anvil
scache    unix  -  -  n  -  1  scache
postlog   unix-dgram  n  -  n  -  1  postlogd
";

/// Dovecot's one configuration file. Homes, and so the indexes, are local to the host (MAIL.md 3.8).
pub(crate) fn dovecot(host: &Host, dir: &Path, spool: &Path) -> String {
    let (dir, spool, addr) = (dir.display(), spool.display(), host.addr());
    format!(
        "base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols = imap pop3
listen = {addr}, 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_failure_delay = 0
mail_location = mbox:~/mail:INBOX={spool}/%u
mail_privileged_group = mail
mbox_write_locks = fcntl
mbox_read_locks = fcntl
mbox_lazy_writes = no
mbox_dirty_syncs = yes
mbox_very_dirty_syncs = no
dotlock_use_excl = yes
mailbox_idle_check_interval = 5s
mail_max_userip_connections = 100
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = passwd
}}
service imap-login {{
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3s {{
    port = 0
  }}
}}
protocol lda {{
  postmaster_address = postmaster@{DOMAIN}
}}
"
    )
}

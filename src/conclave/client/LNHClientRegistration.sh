#!/bin/sh
# Register this client with up to ten Conclave clusters; list them, renew and remove them.
#
# Makes a key and a certificate request here, has the cluster certify it, and writes the five
# LNHServer## entries into Chrystoki.conf.  Needs sh, openssl, curl and awk, and timeout to renew;
# nothing of Conclave.
#
# What holds at every moment:
#   - neither password nor token is asked for, or sent, before the CA's fingerprint is confirmed;
#   - neither of them is ever an argument, an exported variable or a file;
#   - no key file is overwritten or removed, save one that this very run made, or on request;
#   - no authority is trusted but the cluster's, and a new one only if the former vouches for it;
#   - Chrystoki.conf is replaced whole or not at all, and only the five entries differ;
#   - of two runs at once the later edits what the earlier has left.

set -eu
LC_ALL=C
export LC_ALL
unset OPENSSL_CONF CDPATH SSL_CERT_FILE SSL_CERT_DIR
# Out of the environment at once, so that no child inherits them.  A variable that came with the
# environment would go on being exported whatever is assigned to it; so would all of them by -a.
set +a
unset given_password given_token secret
given_password=${CONCLAVE_ADMIN_PASSWORD-} given_token=${CONCLAVE_ENROLMENT_TOKEN-}
unset CONCLAVE_ADMIN_PASSWORD CONCLAVE_ENROLMENT_TOKEN
umask 077

admin_port=50070
crypto_port=50052
admin_user='admin'
server_name=lnh.thalesgroup.com
default_client_dir=/usr/safenet/lunaclient
section='LunaSA Client'
uuid='[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'
name='[A-Za-z0-9][A-Za-z0-9._:-]{0,63}'
host='[A-Za-z0-9:][A-Za-z0-9.:-]{0,254}'
all_indexes='00 01 02 03 04 05 06 07 08 09'

common_name='' address='' cluster_id='' label='' monitor_user=''
client_dir='' fingerprint='' password_fd='' token_fd='' by_token=no force=no
mode=register wanted_index=00 delete_files=no renew_before_days=30
work='' placed='' saved_ca='' lock='' terminal_muted=no finished=no

usage() {
    cat <<USAGE
usage: LNHClientRegistration.sh -n <common name> -i <member address> -c <cluster ID>
           [-l <client label>] [-u <monitor user>] [-m [<index>]]
       LNHClientRegistration.sh --list | --remove <index> | --renew <index>|all
       -m [NN]              a further cluster: at index NN, 01 to 09, or at the next that is free
       --admin-port N       the member's admin port (50070)
       --admin-user NAME    who certifies this client (admin)
       --server-cn NAME     the name in every member's certificate ($server_name)
       --fingerprint HEX    SHA-256 fingerprint of the cluster CA: confirms it without a question
       --password-fd N      read the password from this descriptor; else from the variable
                            CONCLAVE_ADMIN_PASSWORD, else from the terminal
       --token              ask for an enrolment token, which an administrator made, and for no
                            password; it is read from the terminal
       --token-fd N         read the token from this descriptor; the variable
                            CONCLAVE_ENROLMENT_TOKEN does without either option
       --client-dir DIR     where cert/ lies; else the directory above this script's, when that
                            is named bin, else $default_client_dir
       --force              replace, or remove, a cluster without asking
       --list               show the clusters that this client is registered with
       --remove NN          take a cluster out of Chrystoki.conf; its files stay, unless
       --delete-files       says to delete certificate, key and hints as well
       --renew NN|all       have the certificate renewed when it ends within 30 days, or
       --renew-before DAYS  within so many; the key stays, and no password is needed
The configuration is Chrystoki.conf in \$ChrystokiConfigurationPath, else in /etc.
USAGE
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'LNHClientRegistration: %s\n' "$*" >&2
    exit 1
}

# ---------------------------------------------------------------- clean up, whatever happens

unmute() {
    if [ "$terminal_muted" = yes ]; then
        stty echo
        terminal_muted=no
        say ''
    fi
}

clean_up() {
    unmute
    if [ "$finished" = no ]; then
        printf '%s' "$placed" | while IFS= read -r path; do
            rm -f -- "$path"
        done
        if [ -n "$saved_ca" ]; then
            mv -f -- "$work/old_ca.pem" "$saved_ca"
        fi
    fi
    if [ -n "$lock" ]; then
        rmdir -- "$lock"
    fi
    if [ -n "$work" ]; then
        rm -rf -- "$work"
    fi
}

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# proceed QUESTION END: go on when the answer is that very word
proceed() {
    printf "%s: " "$1"
    read -r reply || reply=''
    [ "$reply" = proceed ] || die "stopped; $2"
}

# ---------------------------------------------------------------- arguments

need_value() {
    [ "$#" -ge 2 ] || die "option $1 needs a value"
}

parse_arguments() {
    [ "$#" -gt 0 ] || { usage >&2; exit 1; }
    while [ "$#" -gt 0 ]; do
        case $1 in
            -n) need_value "$@"; common_name=$2; shift ;;
            -i) need_value "$@"; address=$2; shift ;;
            -c) need_value "$@"; cluster_id=$2; shift ;;
            -l) need_value "$@"; label=$2; shift ;;
            -u) need_value "$@"; monitor_user=$2; shift ;;
            --admin-port) need_value "$@"; admin_port=$2; shift ;;
            --admin-user) need_value "$@"; admin_user=$2; shift ;;
            --server-cn) need_value "$@"; server_name=$2; shift ;;
            --fingerprint) need_value "$@"; fingerprint=$2; shift ;;
            --password-fd) need_value "$@"; password_fd=$2; shift ;;
            --token) by_token=yes ;;
            --token-fd) need_value "$@"; token_fd=$2; by_token=yes; shift ;;
            --client-dir) need_value "$@"; client_dir=$2; shift ;;
            --force) force=yes ;;
            -m)
                wanted_index=next
                case ${2-} in [0-9] | [0-9][0-9]) wanted_index=$2; shift ;; esac
                ;;
            --list) mode=list ;;
            --remove) need_value "$@"; mode=remove; wanted_index=$2; shift ;;
            --delete-files) delete_files=yes ;;
            --renew) need_value "$@"; mode=renew; wanted_index=$2; shift ;;
            --renew-before) need_value "$@"; renew_before_days=$2; shift ;;
            -h | --help) usage; finished=yes; exit 0 ;;
            *) usage >&2; die "unknown option $1" ;;
        esac
        shift
    done
}

# matches VALUE EXTENDED-EXPRESSION: the whole value, which must be one line
matches() {
    case $1 in *'
'*) return 1 ;; esac
    printf '%s\n' "$1" | grep -Eqx -e "$2"
}

# demand VALUE EXTENDED-EXPRESSION RULE
demand() { matches "$1" "$2" || die "$3; it is '$1'"; }

check_arguments() {
    case $wanted_index in [0-9]) wanted_index=0$wanted_index ;; esac
    demand "$wanted_index" '0[0-9]|next|all' 'an index is 00 to 09'
    [ "$mode" = renew ] || [ "$wanted_index" != all ] || die 'one index at a time'
    demand "$renew_before_days" '[0-9]{1,4}' '--renew-before must be a number of days'
    check_port "$admin_port"
    [ "$mode" = register ] || return 0
    user='[A-Za-z_][A-Za-z0-9._-]{0,31}'
    demand "$common_name" "$name" '-n must be 1 to 64 letters, digits and ._:- signs'
    demand "$address" "$host" '-i must be the address of a member'
    demand "$cluster_id" "$uuid" "-c must be the cluster's UUID"
    demand "$label" '[^[:cntrl:]]{0,64}' '-l must be one line of at most 64 bytes, without control characters'
    demand "$monitor_user" "($user)?" '-u must be a user name'
    demand "$admin_user" "$user" '--admin-user must be a user name'
    demand "$server_name" '[A-Za-z0-9][A-Za-z0-9.-]{0,63}' '--server-cn must be a host name'
    demand "$password_fd" '[0-9]?' '--password-fd must be a descriptor from 0 to 9'
    demand "$token_fd" '[0-9]?' '--token-fd must be a descriptor from 0 to 9'
    fingerprint=$(printf '%s' "$fingerprint" | tr -d ': ' | tr 'a-f' 'A-F')
    demand "$fingerprint" '([0-9A-F]{64})?' '--fingerprint must be 32 bytes in hexadecimal'
    if [ -n "$given_token" ] && [ -z "$password_fd$given_password" ]; then by_token=yes; fi
    [ "$by_token" = yes ] || return 0
    [ -z "$password_fd$given_password" ] || die 'give a token or a password, not both'
    [ -z "$monitor_user" ] || die '-u does not go with a token: who made it set the user'
}

check_port() {
    if ! matches "$1" '[1-9][0-9]{0,4}' || [ "$1" -gt 65535 ]; then
        die "'$1' is not a port"
    fi
}

check_tools() {
    for tool in openssl curl awk sed grep tr; do
        command -v "$tool" >/dev/null || die "$tool is needed and was not found"
    done
    if [ "$mode" = renew ]; then
        command -v timeout >/dev/null || die 'timeout (coreutils) is needed and was not found'
    fi
    # An external printf would show the password in the list of processes.
    case $(command -v printf) in
        */*) die 'this shell has no printf of its own; run the script with dash, bash or ksh' ;;
    esac
    if [ "$mode" = register ] && [ ! -t 0 ]; then
        [ -n "$fingerprint" ] ||
            die 'without a terminal give --fingerprint, which the administrator can tell you'
        [ -n "$password_fd$given_password$token_fd$given_token" ] ||
            die 'without a terminal give --token-fd, --password-fd, CONCLAVE_ENROLMENT_TOKEN or' \
                'CONCLAVE_ADMIN_PASSWORD'
    fi
}

# ---------------------------------------------------------------- where things lie

find_places() {
    here=$(cd -- "$(dirname -- "$0")" && pwd -P)
    if [ -z "$client_dir" ]; then
        case $here in
            */bin) client_dir=${here%/bin} ;;
            *) client_dir=$default_client_dir ;;
        esac
    fi
    if [ "$mode" = register ]; then
        mkdir -p -- "$client_dir" || die "the client directory $client_dir cannot be made"
    fi
    if [ "$mode" != list ]; then
        entered=$(cd -- "$client_dir" 2>/dev/null && pwd -P) ||
            die "the directory $client_dir is not there, or you may not enter it"
        client_dir=$entered
    fi
    matches "$client_dir" '[^;{}[:cntrl:]]*[^;{}[:cntrl:][:space:]]' ||
        die "Chrystoki.conf cannot name files below '$client_dir'"
    configuration=${ChrystokiConfigurationPath:-/etc}/Chrystoki.conf
    if [ -h "$configuration" ]; then
        configuration=$(readlink -f -- "$configuration") ||
            die "the link $configuration leads nowhere"
    fi
    configuration_dir=$(dirname -- "$configuration")
    [ -d "$configuration_dir" ] ||
        die "there is no directory $configuration_dir for Chrystoki.conf"
    case $mode in
        register | remove)
            [ -w "$configuration_dir" ] ||
                die "you may not write Chrystoki.conf in $configuration_dir"
            ;;
    esac
}

find_files() {
    client_certs=$client_dir/cert/client/$cluster_id
    server_certs=$client_dir/cert/server/$cluster_id
    certificate_file=$client_certs/$common_name.pem
    key_file=$client_certs/${common_name}Key.pem
    hints_file=$certificate_file.members
    ca_file=$server_certs/lnh_ca.pem
    for path in "$key_file" "$certificate_file"; do
        if [ -e "$path" ] || [ -h "$path" ]; then
            die "$path exists and is not touched; choose another name (-n) or move it away"
        fi
    done
}

make_work_directory() {
    work=$client_dir/.registration.$$
    if ! mkdir -- "$work"; then
        work=''
        die "no file can be made in $client_dir"
    fi
    # Where curl finds no authority: given none, it adds those of the system to the cluster's.
    mkdir -- "$work/no_authorities"
}

# ---------------------------------------------------------------- Chrystoki.conf

# entry NAME: its value, nothing if there is none
entry() {
    [ -e "$configuration" ] || return 0
    sed -n "s/^[[:blank:]]*$1[[:blank:]]*=[[:blank:]]*\([^;]*\);.*/\1/p" "$configuration" |
        sed -n '1s/[[:blank:]]*$//p'
}

# choose_index: the one that was named, or the next that is free
choose_index() {
    index=$wanted_index
    if [ "$index" = next ]; then
        for index in ${all_indexes#00 }; do
            if [ -z "$(entry "LNHServer$index")" ]; then break; fi
        done
        [ -z "$(entry "LNHServer$index")" ] ||
            die 'all ten indexes hold a cluster; remove one (--remove), or name one (-m NN)'
    fi
    for other in $all_indexes; do
        case $(entry "LNHServerClientCert$other") in
            */cert/client/"$cluster_id"/*)
                [ "$other" = "$index" ] || [ "$force" = yes ] ||
                    die "cluster $cluster_id is at index $other already; its keyrings would show twice"
                ;;
        esac
    done
}

# lock_configuration: let nobody else edit it until this run ends, which from here is soon
lock_configuration() {
    # From here to the end nothing may interrupt: neither may the lock stay, nor may the entries
    # name files that are gone.
    trap '' HUP INT TERM
    attempts=0
    until mkdir -- "$configuration_dir/.Chrystoki.conf.lock" 2>/dev/null; do
        attempts=$((attempts + 1))
        [ "$attempts" -lt 20 ] ||
            die "$configuration_dir/.Chrystoki.conf.lock stands for another run; if there is none, remove it"
        sleep 1
    done
    lock=$configuration_dir/.Chrystoki.conf.lock
}

# claim_index: the chosen one if it holds what it held then, or what is free now
claim_index() {
    choose_index
    [ "$(entry "LNHServer$index")" = "$present" ] ||
        die "index $index was taken meanwhile; nothing was changed here"
}

# What copies Chrystoki.conf with the five entries set, or removed; ends with 3 when it cannot.
# shellcheck disable=SC2016  # awk expands these
editor='
    function put(line) { printf "%s%s", (written++ ? "\n" : ""), line }
    function put_missing(  i) {
        if (removing) return
        for (i = 1; i <= 5; i++)
            if (!(i in done)) put(indent name[i] " = " value[i] ";" carriage)
    }
    BEGIN {
        removing = ENVIRON["MODE"] == "remove"
        split("LNHServer LNHServerClientCert LNHServerClientKey LNHServerCAFile LNHServerCN", name, " ")
        for (i = 1; i <= 5; i++) {
            name[i] = name[i] ENVIRON["INDEX"]
            value[i] = ENVIRON["VALUE" i]
        }
        ours = "LNHServer[A-Za-z]*" ENVIRON["INDEX"] "[ \t]*="
        indent = "    "
    }
    !inside && !closed && index($0, ENVIRON["SECTION"]) && /^[ \t]*LunaSA Client[ \t]*=/ {
        if ($0 !~ /^[ \t]*LunaSA Client[ \t]*=[ \t]*\{[ \t]*(#.*)?\r?$/) exit 3
        inside = 1
        if (/\r$/) carriage = "\r"
        put($0)
        next
    }
    inside && /^[ \t]*}/ {
        put_missing()
        inside = 0
        closed = 1
        put($0)
        next
    }
    /^[ \t]*LunaSA Client[ \t]*=/ { exit 3 }
    # Of the cluster that was here; a person adds one for the new cluster.
    inside && $0 ~ ("^[ \t]*LNHServerSocket" ENVIRON["INDEX"] "[ \t]*=[^;{}]*;[ \t]*(#.*)?\r?$") { next }
    inside && !/^[ \t]*#/ && $0 ~ ours {
        found = 0
        for (i = 1; i <= 5; i++)
            if ($0 ~ ("^[ \t]*" name[i] "[ \t]*=[^;{}]*;[ \t]*(#.*)?\r?$")) found = i
        if (!found || (found in done)) exit 3
        done[found] = 1
        match($0, /=[ \t]*/)
        head = substr($0, 1, RSTART + RLENGTH - 1)
        tail = substr($0, RSTART + RLENGTH)
        old = substr(tail, 1, index(tail, ";") - 1)
        if (removing) {
            rest = substr(tail, length(old) + 2)
            if (rest !~ /^[ \t]*\r?$/) put(rest)
            next
        }
        sub(/[ \t]*$/, "", old)
        put(head value[found] substr(tail, length(old) + 1))
        next
    }
    {
        if (inside && match($0, /^[ \t]+/) && !/^[ \t]*\r?$/) indent = substr($0, 1, RLENGTH)
        put($0)
    }
    END {
        if (inside) exit 3
        if (!closed && !removing) {
            put(ENVIRON["SECTION"] " = {")
            put_missing()
            put("}")
            printf "\n"
        } else if (ENVIRON["TRAILING"] == "yes") printf "\n"
    }'

# edit_configuration TRAILING-NEWLINE: copy standard input with the five entries set, or removed
edit_configuration() {
    SECTION=$section TRAILING=$1 INDEX=$index MODE=$mode \
        VALUE1=$endpoint VALUE2=$certificate_file VALUE3=$key_file VALUE4=$ca_file \
        VALUE5=$server_name awk "$editor"
}

prepare_configuration() {
    endpoint=$(url_host):$crypto_port
    if [ ! -e "$configuration" ]; then
        : >"$work/Chrystoki.conf"
        chmod 644 "$work/Chrystoki.conf"
        edit_configuration yes </dev/null >"$work/edited"
    else
        cp -p -- "$configuration" "$work/Chrystoki.conf"
        [ "$(tr -d '\000' <"$configuration" | wc -c)" -eq "$(wc -c <"$configuration")" ] ||
            die "$configuration is not a text file"
        trailing=yes
        [ -z "$(tail -c 1 -- "$configuration")" ] || trailing=no
        edit_configuration "$trailing" <"$configuration" >"$work/edited" ||
            die "section $section of $configuration is written in a way that only a person can edit"
    fi
    # The copy has the mode and owner of the file that it will replace.
    cat "$work/edited" >"$work/Chrystoki.conf"
}

ask_to_replace() {
    present=$(entry "LNHServer$index")
    if [ -z "$present" ] || [ "$force" = yes ]; then
        return 0
    fi
    [ -t 0 ] || die "index $index holds the cluster at $present; --force replaces it"
    say "Index $index of $configuration holds the cluster at $present."
    proceed "Type 'proceed' to replace it, or anything else to stop" 'nothing was changed'
}

# ---------------------------------------------------------------- JSON

# What reads a JSON text: walk() calls value() for each string and number that is no name, with what
# it belongs to in name[depth], and closed() where an object ends.
# shellcheck disable=SC2016  # awk expands these
json_reader='
    { text = text $0 "\n" }
    function string(  out, c, code) {
        out = ""
        while (++at <= size) {
            c = substr(text, at, 1)
            if (c == "\"") return out
            if (c != "\\") { out = out c; continue }
            c = substr(text, ++at, 1)
            if (c == "n") out = out "\n"
            else if (c == "r") out = out "\r"
            else if (c == "t") out = out "\t"
            else if (c == "u") {
                code = substr(text, at + 1, 4)
                at += 4
                out = out (code in plain ? plain[code] : "?")
            } else out = out c
        }
        exit 1
    }
    function is_name(  rest) {
        rest = substr(text, at + 1, 64)
        sub(/^[ \t\r\n]*/, "", rest)
        return substr(rest, 1, 1) == ":"
    }
    function number() {
        match(substr(text, at), /^[0-9]+/)
        return substr(text, at, RLENGTH)
    }
    function walk(  c, word) {
        for (c = 32; c < 127; c++) {
            plain[sprintf("%04x", c)] = plain[sprintf("%04X", c)] = sprintf("%c", c)
        }
        size = length(text)
        for (at = 1; at <= size; at++) {
            c = substr(text, at, 1)
            if (c == "\"") {
                word = string()
                if (is_name()) name[depth] = word
                else value(word)
            } else if (c ~ /[0-9]/) {
                word = number()
                at += length(word) - 1
                value(word)
            } else if (c == "{" || c == "[") depth++
            else if (c == "}" || c == "]") {
                if (c == "}") closed()
                depth--
            }
        }
    }
    END { walk() }'

# json_field NAME FILE: the string or number of that name in the outermost object
json_field() {
    WANTED=$1 awk "$json_reader"'
    function value(word) {
        if (depth == 1 && name[1] == ENVIRON["WANTED"]) { print word; exit }
    }
    function closed() { }' "$2"
}

# json_members FILE: UUID, address, crypto port and group of each member, one on a line
json_members() {
    awk "$json_reader"'
    function value(word) {
        if (depth == 3 && name[1] == "members") of[name[3]] = word
    }
    function closed(  row) {
        if (depth != 3 || name[1] != "members") return
        row = of["memberUUID"] " " of["ipAddress"] " " of["cryptoPort"] " " of["group"]
        gsub(/[[:cntrl:]]/, " ", row)
        print row
        split("", of)
    }' "$1"
}

# json_string: standard input as a JSON string
json_string() {
    sed 's/\\/\\\\/g; s/"/\\"/g' |
        awk '{ text = text (NR > 1 ? "\\n" : "") $0 } END { printf "\"%s\"", text }'
}

# ---------------------------------------------------------------- the member

# ask CURL-OPTIONS...: print the HTTP status, leave the body in $work/answer; configuration on stdin
ask() {
    curl -q --silent --show-error --noproxy '*' --proto '=https' --tlsv1.2 \
        --capath "$work/no_authorities" \
        --connect-timeout 10 --max-time 60 --max-filesize 1000000 \
        --output "$work/answer" --write-out '%{http_code}' --config - "$@"
}

# ask_member CA-FILE PATH CURL-OPTIONS...: ask below /api/clusters, of whoever proves to be a member
ask_member() {
    authority=$1
    path=$2
    shift 2
    ask --cacert "$authority" --connect-to "$server_name:$admin_port:$(url_host):$admin_port" \
        --header 'Content-Type: application/json' "$@" \
        "https://$server_name:$admin_port/api/clusters/$path"
}

# url_host: the member's address as a URL has it
url_host() {
    case $address in
        *:*) printf '[%s]' "$address" ;;
        *) printf '%s' "$address" ;;
    esac
}

# failed CURL-STATUS
failed() {
    case $1 in
        35 | 51 | 58 | 60) die 'the member did not prove that it is of this cluster; nothing secret was sent' ;;
        *) die 'the request to the member failed; see above. Nothing was changed here' ;;
    esac
}

# answered NAME: a field of the answer without what a terminal would take for a command
answered() {
    json_field "$1" "$work/answer" 2>/dev/null | tr -cd '\040-\176'
}

explain() {
    reason=$(answered details)
    [ -n "$reason" ] || reason=$(answered message)
    printf '%s %s' "$1" "$reason"
}

fetch_ca() {
    # Nothing secret is sent here, and nothing in the answer is believed before it is confirmed.
    door=https://$(url_host):$admin_port
    status=$(ask --insecure "$door/api/cluster/ca" </dev/null) ||
        die "no answer from $door; does the cluster service run?"
    [ "$status" = 200 ] || die "the member tells no cluster CA: $(explain "$status")"
    json_field caCertificate "$work/answer" >"$work/lnh_ca.pem"
    named=$(answered clusterUUID)
    [ "$named" = "$cluster_id" ] ||
        die "the member at $address is of cluster '$named', not of $cluster_id (-c)"
    shown=$(openssl x509 -in "$work/lnh_ca.pem" -noout -fingerprint -sha256 2>/dev/null) ||
        die 'the member sent no certificate'
    # One certificate and nothing else: what is confirmed is what is trusted.
    openssl x509 -in "$work/lnh_ca.pem" -out "$work/one.pem"
    mv -f -- "$work/one.pem" "$work/lnh_ca.pem"
    shown=${shown#*=}
}

confirm_ca() {
    say "SHA-256 fingerprint of the cluster CA at $address:"
    say "  $shown"
    bare=$(printf '%s' "$shown" | tr -d ':')
    if [ -n "$fingerprint" ]; then
        [ "$fingerprint" = "$bare" ] ||
            die 'that is not the fingerprint given; nothing was sent, nothing was changed'
        say 'It is the fingerprint given.'
        return 0
    fi
    proceed "Compare it with what the administrator tells you. Type 'proceed' if they are equal" \
        'nothing was sent, nothing was changed'
}

# make_request KEY-FILE NAME: a certificate request
make_request() {
    printf '[req]\ndistinguished_name = name\n[name]\n' >"$work/openssl.cnf"
    openssl req -new -sha256 -config "$work/openssl.cnf" -key "$1" -subj "/CN=$2" \
        -out "$work/request.pem" 2>/dev/null
}

make_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/key.pem" 2>/dev/null ||
        die 'openssl made no key'
    chmod 600 "$work/key.pem"
    make_request "$work/key.pem" "$common_name" || die 'openssl made no request'
}

# read_secret WHAT DESCRIPTOR GIVEN PROMPT: set secret
read_secret() {
    if [ -n "$2" ]; then
        eval "IFS= read -r secret <&$2" || [ -n "${secret-}" ] ||
            die "no $1 could be read from descriptor $2"
    elif [ -n "$3" ]; then
        secret=$3
    else
        # Muted before it is asked for, so that not even a fast hand is shown.
        terminal_muted=yes
        stty -echo
        printf '%s: ' "$4"
        IFS= read -r secret || secret=''
        unmute
    fi
    [ -n "$secret" ] || die "the $1 is empty"
}

read_proof() {
    if [ "$by_token" = yes ]; then
        read_secret token "$token_fd" "$given_token" 'Enrolment token'
        matches "$secret" 'enrol-[A-Za-z0-9_-]{64}' || die 'that is no enrolment token'
    else
        read_secret password "$password_fd" "$given_password" \
            "Password of appliance user $admin_user"
    fi
    given_password='' given_token=''
}

# quoted: standard input as a word of curl's configuration
quoted() {
    printf '"'
    sed 's/[\\"]/\\&/g' | tr -d '\n'
    printf '"\n'
}

# What curl reads of its standard input, where nobody else sees it.
proof_and_body() {
    if [ "$by_token" = yes ]; then
        printf 'data-binary = '
        { printf '{"token": "%s", ' "$secret"; cat "$work/body"; } | quoted
    else
        printf 'user = '
        printf '%s:%s' "$admin_user" "$secret" | quoted
        printf 'data-binary = '
        { printf '{'; cat "$work/body"; } | quoted
    fi
}

# request_once: ask for the certificate; the status is curl's
request_once() {
    doing=clients
    if [ "$by_token" = yes ]; then doing=clients/actions/enrol; fi
    status=$(proof_and_body | ask_member "$work/lnh_ca.pem" "$cluster_id/$doing")
}

# An answer that was lost is asked for again: the same key gives the same client, and does not
# spend a token twice.
request_until_answered() {
    for _ in 1 2; do
        outcome=0
        request_once || outcome=$?
        case $outcome:$status in
            0:50[34] | 18:* | 28:* | 52:* | 55:* | 56:*) sleep 1 ;;
            0:*) return 0 ;;
            *) failed "$outcome" ;;
        esac
    done
    request_once || failed $?
}

request_certificate() {
    {
        printf '"csr": '
        json_string <"$work/request.pem"
        if [ -n "$label" ]; then
            printf ', "label": '
            printf '%s\n' "$label" | json_string
        fi
        if [ -n "$monitor_user" ]; then
            printf ', "monitorUser": "%s"' "$monitor_user"
        fi
        printf '}'
    } >"$work/body"
    request_until_answered
    secret=''
    case $status in
        200 | 201) ;;
        *) die "the cluster did not certify this client: $(explain "$status")" ;;
    esac
    json_field certificate "$work/answer" >"$work/certificate.pem"
    # The name is the one that TLS was just verified with, never one that an answer brings.
    named=$(answered serverCommonName)
    [ "$named" = "$server_name" ] ||
        die "the members call themselves '$named', not '$server_name' (--server-cn)"
    crypto_port=$(answered cryptoPort)
    check_port "$crypto_port"
    write_hints
}

# Where the PKCS#11 module finds the other members, should this one be gone when it is first used.
# Hints only, as the module keeps them itself: whoever answers there has to prove to be a member.
write_hints() {
    json_members "$work/answer" | awk -v entry="$address $crypto_port" '
        NF >= 4 {
            group = $0
            sub(/^[^ ]+ [^ ]+ [^ ]+ /, "", group)
            if (!known++) print "entry", entry, $1, group
            print "member", $1, $2, $3, 0, group
        }' >"$work/members"
}

# verified CA-FILE OPTIONS...: whether that file vouches, and no authority of the system
verified() {
    authority=$1
    shift
    openssl verify -no_check_time -no-CApath -no-CAstore -CAfile "$authority" "$@" >/dev/null 2>&1
}

# public_key CERTIFICATE-FILE
public_key() { openssl x509 -in "$1" -noout -pubkey 2>/dev/null; }

# certified KEY: whether the certificate that came back is of the CA and for this key
certified() {
    verified "$work/lnh_ca.pem" "$work/certificate.pem" &&
        own=$(openssl pkey -in "$1" -pubout) &&
        [ "$(public_key "$work/certificate.pem")" = "$own" ]
}

check_certificate() {
    certified "$work/key.pem" ||
        die 'the certificate that came back is not of the confirmed CA, or for another key'
}

# ---------------------------------------------------------------- put it in place

# place FILE TARGET: link makes a new file or fails, so nothing is ever overwritten
place() {
    ln -- "$1" "$2" || die "$2 cannot be made"
    placed="$placed$2
"
}

put_in_place() {
    mkdir -p -- "$client_certs" "$server_certs"
    place "$work/key.pem" "$key_file"
    place "$work/certificate.pem" "$certificate_file"
    rm -f -- "$hints_file"
    if [ -s "$work/members" ]; then
        place "$work/members" "$hints_file"
    fi
    if [ -e "$ca_file" ]; then
        cp -p -- "$ca_file" "$work/old_ca.pem"
        saved_ca=$ca_file
    else
        placed="$placed$ca_file
"
    fi
    mv -f -- "$work/lnh_ca.pem" "$ca_file"
}

replace_configuration() {
    temporary=$configuration_dir/.Chrystoki.conf.$$
    placed="$placed$temporary
"
    cp -p -- "$work/Chrystoki.conf" "$temporary"
    mv -f -- "$temporary" "$configuration"
    finished=yes
}

# ---------------------------------------------------------------- list, remove

# describe INDEX: what is known of the cluster there; set known_cluster, known_name, known_end
describe() {
    certificate_file=$(entry "LNHServerClientCert$1")
    key_file=$(entry "LNHServerClientKey$1")
    ca_file=$(entry "LNHServerCAFile$1")
    known_cluster=$(basename -- "$(dirname -- "$certificate_file")")
    # One attribute on a line, whatever its value: no name can pass for another.
    subject=$(openssl x509 -in "$certificate_file" -noout -subject -nameopt multiline,utf8 2>/dev/null) || subject=''
    known_name=$(printf '%s\n' "$subject" | sed -n 's/^ *commonName *= //p')
    known_id=$(printf '%s\n' "$subject" | sed -n 's/^ *serialNumber *= //p')
    known_end=$(openssl x509 -in "$certificate_file" -noout -enddate 2>/dev/null) || known_end='notAfter=unknown: the file cannot be read'
    known_end=${known_end#notAfter=}
}

list_clusters() {
    count=0
    for index in $all_indexes; do
        server=$(entry "LNHServer$index")
        [ -n "$server" ] || continue
        count=$((count + 1))
        describe "$index"
        say "$index  $server"
        say "    cluster      $known_cluster"
        say "    client       ${known_name:-unknown} (id ${known_id:-unknown})"
        say "    certificate  $certificate_file"
        say "    valid until  $known_end"
    done
    finished=yes
    [ "$count" -gt 0 ] || die "no cluster is registered in $configuration"
}

remove_cluster() {
    index=$wanted_index
    server=$(entry "LNHServer$index")
    [ -n "$server" ] || die "index $index holds no cluster"
    describe "$index"
    if [ "$force" = no ]; then
        [ -t 0 ] || die 'without a terminal --force is needed to remove a cluster'
        say "Index $index of $configuration holds the cluster at $server. Stop its applications first."
        proceed "Type 'proceed' to remove it, or anything else to stop" 'nothing was changed'
    fi
    make_work_directory
    present=$server
    lock_configuration
    claim_index
    prepare_configuration
    replace_configuration
    say "The cluster at $server was removed from index $index."
    if [ "$delete_files" = yes ]; then
        for path in "$certificate_file" "$key_file" "$certificate_file.members"; do
            # Nothing but what a registration made, wherever the entries point to.
            case $path in
                "$client_dir"/cert/client/*) rm -f -- "$path" ;;
                *) say "  $path is not below $client_dir/cert/client and stays" ;;
            esac
        done
    else
        say "  $certificate_file, its key and its hints stay."
    fi
    say "  The cluster knows client ${known_id:-$known_name} until an administrator revokes it."
}

# ---------------------------------------------------------------- renew

# renewal_hosts INDEX: the entry member, then the others that are known
renewal_hosts() {
    entry "LNHServer$1" | sed 's/:[0-9]*$//; s/^\[\(.*\)\]$/\1/'
    [ ! -f "$certificate_file.members" ] ||
        awk '$1 == "member" { print $3 }' "$certificate_file.members"
}

# ask_for_renewal: have the first member that answers certify the key again
ask_for_renewal() {
    make_request "$key_file" "$known_name" || return 1
    { printf '{"csr": ' && json_string <"$work/request.pem" && printf '}'; } >"$work/body" ||
        return 1
    for address in $(renewal_hosts "$index" | awk '!seen[$0]++'); do
        matches "$address" "$host" || continue
        status=$(ask_member "$ca_file" "$known_cluster/clients/actions/renew" \
            --data-binary "@$work/body" </dev/null) || continue
        case $status in
            200) return 0 ;;
            50? | 409) continue ;;
            *) complain "the cluster did not renew it: $(explain "$status")"; return 1 ;;
        esac
    done
    complain 'no member renewed it'
    return 1
}

# fetch_chain: what the member shows of itself, with the certificates of each CA by the one before
fetch_chain() {
    # curl of many a host cannot tell it.  Nothing of it is believed before it is verified.
    timeout 30 openssl s_client -connect "$(url_host):$admin_port" \
        -servername "$server_name" -showcerts </dev/null >"$work/shown" 2>/dev/null || true
    awk '/^-----BEGIN CERTIFICATE-----/ { inside = 1 }
        inside { print }
        /^-----END CERTIFICATE-----/ { inside = 0 }' "$work/shown" >"$work/chain.pem"
}

# vouched: whether the present CA file vouches for the CA that came with the answer: it has that
# very certificate, or the member shows one of the same key, of a CA, that leads to the present one
vouched() {
    # Both as openssl writes them, so that equal certificates are equal texts.
    new=$(openssl x509 -in "$work/lnh_ca.pem") && old=$(openssl x509 -in "$ca_file") || return 1
    [ "$new" != "$old" ] || return 0
    new_key=$(public_key "$work/lnh_ca.pem") && fetch_chain || return 1
    # -untrusted only helps to find the way: it must begin in the present file.
    verified "$ca_file" -untrusted "$work/chain.pem" "$work/certificate.pem" || return 1
    rm -f -- "$work"/shown.*
    WORK=$work awk '/^-----BEGIN/ { file = ENVIRON["WORK"] "/shown." ++count }
        file { print >file }
        /^-----END/ { close(file) }' "$work/chain.pem" || return 1
    for shown in "$work"/shown.*; do
        [ "$(public_key "$shown")" = "$new_key" ] || continue
        # A member's own key is vouched for as well, but not as that of a CA.
        openssl x509 -in "$shown" -noout -ext basicConstraints 2>/dev/null |
            grep -q 'CA:TRUE' || continue
        if verified "$ca_file" -untrusted "$work/chain.pem" "$shown"; then return 0; fi
    done
    return 1
}

# replace_file NEW OLD: whole, with the mode and owner of the old one
replace_file() {
    placed="$placed$2.$$
"
    # Each step says itself what follows when it fails: the caller's || switches set -e off.
    if cp -p -- "$2" "$2.$$" && cat -- "$1" >"$2.$$" && mv -f -- "$2.$$" "$2"; then
        return 0
    fi
    complain "$2 could not be replaced and is as it was"
    rm -f -- "$2.$$"
    return 1
}

# take_renewed: put what was answered in place, if it is what it has to be
take_renewed() {
    json_field certificate "$work/answer" >"$work/sent.pem" &&
        json_field caCertificate "$work/answer" >"$work/sent_ca.pem" || return 1
    # One certificate each and nothing else: what is verified is what is put in place.
    if ! openssl x509 -in "$work/sent.pem" -out "$work/certificate.pem" 2>/dev/null ||
        ! openssl x509 -in "$work/sent_ca.pem" -out "$work/lnh_ca.pem" 2>/dev/null ||
        ! certified "$key_file"; then
        complain 'the certificate that came back is not of its CA, or for another key'
        return 1
    fi
    if ! vouched; then
        complain "the CA in $ca_file does not vouch for the one that the member named; nothing was" \
            'changed. If the administrator confirms the fingerprint of a new CA, register again'
        return 1
    fi
    # The CA first: it vouches for members whichever certificate this client shows.
    replace_file "$work/lnh_ca.pem" "$ca_file" || return 1
    replace_file "$work/certificate.pem" "$certificate_file" || return 1
}

renew_index() {
    describe "$index"
    server_name=$(entry "LNHServerCN$index")
    server_name=${server_name:-lnh.thalesgroup.com}
    if ! matches "$known_cluster" "$uuid" || ! matches "$known_name" "$name" || [ ! -r "$key_file" ]; then
        complain 'its certificate or its key cannot be read'
        return 1
    fi
    if openssl x509 -in "$certificate_file" -noout -checkend $((renew_before_days * 86400)) >/dev/null; then
        say "$index  not due: valid until $known_end"
        return 0
    fi
    ask_for_renewal || return 1
    take_renewed || return 1
    describe "$index"
    say "$index  renewed: valid until $known_end"
}

complain() { printf 'LNHClientRegistration: index %s: %s\n' "$index" "$*" >&2; }

renew_clusters() {
    failures=0
    make_work_directory
    for index in $all_indexes; do
        if [ "$wanted_index" != all ] && [ "$wanted_index" != "$index" ]; then continue; fi
        if [ -z "$(entry "LNHServer$index")" ]; then
            [ "$wanted_index" = all ] || die "index $index holds no cluster"
            continue
        fi
        renew_index || failures=$((failures + 1))
    done
    [ "$failures" = 0 ] || exit 1
    finished=yes
}

main() {
    parse_arguments "$@"
    check_arguments
    check_tools
    find_places
    case $mode in
        list) list_clusters; return 0 ;;
        remove) remove_cluster; return 0 ;;
        renew) renew_clusters; return 0 ;;
    esac
    find_files
    choose_index
    ask_to_replace
    make_work_directory
    prepare_configuration
    fetch_ca
    confirm_ca
    make_key
    read_proof
    request_certificate
    check_certificate
    put_in_place
    lock_configuration
    claim_index
    prepare_configuration
    replace_configuration
    say "Client $common_name is registered with cluster $cluster_id."
    say "  certificate   $certificate_file"
    say "  key           $key_file"
    say "  cluster CA    $ca_file"
    say "  members       $(grep -c '^member ' "$work/members" || true), in $hints_file"
    say "  configuration $configuration (index $index: $endpoint)"
}

main "$@"

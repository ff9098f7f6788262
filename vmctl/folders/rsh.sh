# rsync's remote shell, run by `sh`: ssh, without what the guest's start-up files print before rsync begins. Arguments:
#   MARK SSH CONFIG HOST WORD…      the words are rsync's command for the guest
mark=$1 ssh=$2 config=$3 host=$4
shift 4
"$ssh" -F "$config" -- "$host" "echo '$mark'; exec $*" | {
    while IFS= read -r line; do
        case $line in *"$mark") exec cat ;; esac # `read` takes no byte more than the line from a pipe
    done
}

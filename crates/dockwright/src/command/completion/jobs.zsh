# Completes names of jobs.
_dockwright_jobs() {
    local option
    local -a place jobs
    for option in -C --directory -f --file; do
        if [[ -n "${opt_args[$option]}" ]]; then
            place+=("$option" "${opt_args[$option]}")
        fi
    done
    jobs=("${(@f)$(dockwright list --names "${place[@]}" 2>/dev/null)}")
    compadd -a jobs
}


# Completes names of jobs where one is expected, anything else as generated.
_dockwright_or_job() {
    _dockwright "$@"
    local i word command="" typed="${COMP_LINE:0:COMP_POINT}"
    local -a place=()
    case "$3" in
        @VALUED@) return ;;
    esac
    for (( i = 1; i < COMP_CWORD; i++ )); do
        word="${COMP_WORDS[i]}"
        case "${word}" in
            -C|--directory|-f|--file) place+=("${word}" "${COMP_WORDS[i + 1]}"); (( i++ )) ;;
            @VALUED@) (( i++ )) ;;
            -*) ;;
            *) [[ -n "${command}" ]] || command="${word}" ;;
        esac
    done
    case "${command}" in
        @COMMANDS@) ;;
        *) return ;;
    esac
    # The word as it was typed: bash itself ends words at colons.
    [[ "${typed}" =~ (([^[:space:]\\]|\\.)*)$ ]]
    word="${BASH_REMATCH[1]}"
    [[ "${word}" != -* ]] || return
    local job quoted before="" quote=""
    case "${word}" in
        \'*|\"*) quote="${word:0:1}"; word="${word:1}" ;;
    esac
    [[ "${COMP_WORDBREAKS}" != *:* || "${word}" != *:* ]] || before="${word%:*}:"
    COMPREPLY=()
    while IFS= read -r job; do
        quoted="${job}"
        [[ -n "${quote}" ]] || printf -v quoted '%q' "${job}"
        [[ "${quoted}" != "${word}"* ]] || COMPREPLY+=("${quoted#"${before}"}")
    done < <("$1" list --names ${place[@]+"${place[@]}"} 2>/dev/null)
}

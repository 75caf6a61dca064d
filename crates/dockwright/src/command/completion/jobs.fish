# Completes names of jobs.
function __fish_dockwright_jobs
    set -l words (commandline -opc)
    set -l place
    for i in (seq (count $words))
        if contains -- $words[$i] -C --directory -f --file
            set -a place $words[$i] $words[(math $i + 1)]
        end
    end
    dockwright list --names $place 2>/dev/null
end

complete -c dockwright -n "__fish_dockwright_using_subcommand @COMMANDS@" -f -a "(__fish_dockwright_jobs)"

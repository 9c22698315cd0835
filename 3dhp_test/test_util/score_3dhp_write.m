function score_3dhp_write(folder, name, errors, truth, annotation, verbose)
% Score one answer and write two CSVs and the per-joint errors.
%
% errors: a cell for each of TS1..TS6, 17 x valid frames, mm; name: ori_<setting>_t<k>; verbose: say what is left out.
    names = score_3dhp_names();
    sequencewise_per_joint_error = errors(:);
    pooled = zeros(17, 0);
    activity = zeros(1, 0);
    labels = {};
    frames = [];
    rows = [];
    for i = 1:6
        if isempty(truth(i).poses) || isequal(errors{i}, [])
            continue
        end
        if isempty(errors{i})
            if verbose, fprintf('TS%d has no valid frame: left out\n', i); end
            continue
        end
        labels{end + 1} = sprintf('TestSeq%d', i);
        frames(end + 1) = size(errors{i}, 2);
        rows(end + 1, :) = score_3dhp_row(errors{i});
        pooled = [pooled, errors{i}];
        activity = [activity, truth(i).activity(truth(i).valid)];
    end
    if isempty(rows)
        error('no sequence has a valid frame: nothing can be scored');
    end
    all_frames = size(pooled, 2);
    over_frames = score_3dhp_row(pooled);
    labels = [labels, {'mean over sequences', 'mean over frames'}];
    write_csv(fullfile(folder, ['mpii_3dhp_evaluation_sequencewise_', name, '.csv']), 'sequence', labels, ...
              [frames, all_frames, all_frames], [rows; mean(rows, 1); over_frames], annotation, names);
    if verbose
        fprintf('%s: mean over sequences MPJPE %.2f mm, PCK %.2f %%, AUC %.2f %%\n', name, mean(rows(:, 18)), ...
                mean(rows(:, 27)), mean(rows(:, 36)));
    end

    activitywise_per_joint_error = cell(7, 1);
    labels = {};
    frames = [];
    rows = [];
    for a = 1:7
        found = pooled(:, activity == a);
        activitywise_per_joint_error{a} = found;
        if isempty(found)
            if verbose, fprintf('%s has no valid frame: left out\n', names.activities{a}); end
            continue
        end
        labels{end + 1} = names.activities{a};
        frames(end + 1) = size(found, 2);
        rows(end + 1, :) = score_3dhp_row(found);
    end
    unknown = all_frames - sum(frames);
    if unknown > 0 && verbose
        fprintf('%d valid frames have no activity of 1 to 7: they count everywhere else\n', unknown);
    end
    write_csv(fullfile(folder, ['mpii_3dhp_evaluation_activitywise_', name, '.csv']), 'activity', ...
              [labels, {'All'}], [frames, all_frames], [rows; over_frames], annotation, names);

    file = fullfile(folder, ['mpii_3dhp_per_joint_error_', name, '.mat']);
    save([file, '.part'], 'sequencewise_per_joint_error', 'activitywise_per_joint_error', 'annotation', '-v7');
    move(file);
end

function write_csv(file, kind, labels, frames, rows, annotation, names)
    part = fopen([file, '.part'], 'w');
    if part < 0
        error('%s cannot be written', file);
    end
    fprintf(part, '%s,annotation,frames', kind);
    fprintf(part, ',mpjpe_%s_mm', names.joints{:}, 'average');
    fprintf(part, ',pck_%s_percent', names.groups{:});
    fprintf(part, ',auc_%s_percent', names.groups{:});
    fprintf(part, '\n');
    for r = 1:numel(labels)
        fprintf(part, '%s,%s,%d', labels{r}, annotation, frames(r));
        fprintf(part, ',%.9f', rows(r, :));
        fprintf(part, '\n');
    end
    fclose(part);
    move(file);
end

function move(file)
% A reader meets the old file or the new one, never half of one.
    [done, message] = movefile([file, '.part'], file, 'f');
    if ~done
        error('%s cannot be written (%s)', file, message);
    end
end

function notes = score_3dhp_write(folder, name, kind, errors, truth, annotation)
% Score one answer and write two CSVs and the per-joint errors; returns what is left out, a line a cell.
%
% errors: a cell for each of TS1..TS6, 17 x valid frames, mm; name: ori_<setting>_t<k>; kind: oracle, needs the true root
% or deployable, which is what the setting is.
    names = score_3dhp_names();
    notes = {};
    sequencewise_per_joint_error = cell(6, 1);  % the names and sizes that the field's scorers save
    sequencewise_activity_labels = cell(6, 1);
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
            notes{end + 1} = sprintf('TS%d has no valid frame: left out', i);
            continue
        end
        of_sequence = truth(i).activity(truth(i).valid);
        sequencewise_per_joint_error{i} = reshape(errors{i}, 17, 1, []);
        sequencewise_activity_labels{i} = of_sequence(:);
        labels{end + 1} = sprintf('TestSeq%d', i);
        frames(end + 1) = size(errors{i}, 2);
        rows(end + 1, :) = score_3dhp_row(errors{i});
        pooled = [pooled, errors{i}];
        activity = [activity, of_sequence];
    end
    if isempty(rows)
        error('no sequence has a valid frame: nothing can be scored');
    end
    all_frames = size(pooled, 2);
    over_frames = score_3dhp_row(pooled);
    labels = [labels, {'mean over sequences', 'mean over frames'}];
    write_csv(fullfile(folder, ['mpii_3dhp_evaluation_sequencewise_', name, '.csv']), 'sequence', labels, ...
              [frames, all_frames, all_frames], [rows; mean(rows, 1); over_frames], annotation, kind, names);
    fprintf('%s (%s): mean over sequences MPJPE %.2f mm, PCK %.2f %%, AUC %.2f %%\n', name, kind, ...
            mean(rows(:, 18)), mean(rows(:, 27)), mean(rows(:, 36)));

    labels = {};
    frames = [];
    rows = [];
    for a = 1:7
        found = pooled(:, activity == a);
        if isempty(found)
            notes{end + 1} = sprintf('%s has no valid frame: left out', names.activities{a});
            continue
        end
        labels{end + 1} = names.activities{a};
        frames(end + 1) = size(found, 2);
        rows(end + 1, :) = score_3dhp_row(found);
    end
    unknown = all_frames - sum(frames);
    if unknown > 0
        notes{end + 1} = sprintf('%d valid frames have no activity of 1 to 7: they count everywhere else', unknown);
    end
    write_csv(fullfile(folder, ['mpii_3dhp_evaluation_activitywise_', name, '.csv']), 'activity', ...
              [labels, {'All'}], [frames, all_frames], [rows; over_frames], annotation, kind, names);

    file = fullfile(folder, ['mpii_3dhp_prediction_', name, '.mat']);
    save([file, '.part'], 'sequencewise_per_joint_error', 'sequencewise_activity_labels', 'annotation', '-v7');
    move(file);
end

function write_csv(file, rows_are, labels, frames, rows, annotation, kind, names)
    part = fopen([file, '.part'], 'w');
    if part < 0
        error('%s cannot be written', file);
    end
    fprintf(part, '%s,annotation,setting,frames', rows_are);
    fprintf(part, ',mpjpe_%s_mm', names.joints{:}, 'average');
    fprintf(part, ',pck_%s_percent', names.groups{:});
    fprintf(part, ',auc_%s_percent', names.groups{:});
    fprintf(part, '\n');
    for r = 1:numel(labels)
        fprintf(part, '%s,%s,%s,%d', labels{r}, annotation, kind, frames(r));
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

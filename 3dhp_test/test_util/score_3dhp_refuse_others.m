function score_3dhp_refuse_others(folder, names)
% Stop if the folder holds files of other scores, which would stay beside the new and be taken for theirs.
%
% names: ori_<setting>_t<k> of each answer that is to be written.
    kinds = {'mpii_3dhp_evaluation_sequencewise_', 'mpii_3dhp_evaluation_activitywise_', 'mpii_3dhp_prediction_'};
    endings = {'.csv', '.csv', '.mat'};
    for i = 1:numel(kinds)
        found = dir(fullfile(folder, [kinds{i}, 'ori_*', endings{i}]));
        others = setdiff({found.name}, strcat(kinds{i}, names, endings{i}));
        if ~isempty(others)
            error('%s has files of other scores, such as %s; set another out, or delete them', folder, others{1});
        end
    end
end
